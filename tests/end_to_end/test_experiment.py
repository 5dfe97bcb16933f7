"""The whole experiment from the command line."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from duodiff_pipeline.networks.files import StoredNetwork

from .conftest import Project, copy_project, results


def test_two_runs_in_empty_folders_give_identical_results(finished: Project, tmp_path: Path) -> None:
    again = copy_project(tmp_path)
    assert again.kedro("run", "--env", "test").returncode == 0
    first, second = results(finished), results(again)
    assert {
        "08_reporting/test/records.json",
        "08_reporting/test/metrics.json",
        "08_reporting/test/trials.parquet",
    } <= set(first)
    assert any(name.endswith("sample_grids.safetensors") for name in first)
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_the_run_ends_with_the_summary_and_where_to_look(finished: Project) -> None:
    shown = (finished.root / "stdout.txt").read_text()
    for plan in json.loads((finished.data("07_model_output") / "evaluated_plans.json").read_text()):
        assert plan["name"] in shown
    beforehand = (finished.root / "stderr.txt").read_text()
    assert "data_preparation, metric_reference, training" in beforehand
    assert "about 20 seconds on 2 cores" in beforehand
    for place in ("report.html", "records.json", "mlflow.db", "floor"):
        assert place in shown


def test_every_evaluated_plan_has_a_record_with_an_interval(finished: Project) -> None:
    records = json.loads((finished.data("08_reporting") / "records.json").read_text())
    plans = json.loads((finished.data("07_model_output") / "evaluated_plans.json").read_text())
    more = ("fid_infinity", "precision", "recall")
    metrics = ("fid", "kid", *more, "memorisation_features", "memorisation_pixels")
    assert [(record["denoiser"], record["name"]) for record in records] == [
        (plan["name"], metric) for plan in plans for metric in metrics
    ]
    distances = [record for record in records if record["name"] in ("fid", "kid")]
    assert all(record["interval_low"] < record["value"] < record["interval_high"] for record in distances)
    assert all((record["expected"] == pytest.approx(2 / 3)) == ("memorisation" in record["name"]) for record in records)
    assert {plan["role"] for plan in plans} == {"deep", "shallow", "duodiff", "adadiff", "ase", "multistage", "control"}


def test_plans_but_controls_are_timed_at_every_batch_that_is_asked_for(finished: Project) -> None:
    plans = json.loads((finished.data("07_model_output") / "evaluated_plans.json").read_text())
    timings = json.loads((finished.data("08_reporting") / "timings.json").read_text())
    records = json.loads((finished.data("08_reporting") / "records.json").read_text())
    gmacs = {record["denoiser"]: record["gmacs"] for record in records}
    assert [timed["images"] for timed in timings["by_batch"]] == [1, 2]
    for timed in timings["by_batch"]:
        assert set(timed["plans"]) == {plan["name"] for plan in plans if plan["role"] != "control"}
        assert all(0 < own["low"] <= own["seconds_per_image"] <= own["high"] for own in timed["plans"].values())
        assert set(timed["profile"]) == {"deep", "shallow"}
        assert all(0 < own["in_products"] < own["seconds"] for own in timed["profile"].values())
        for plan in (plan for plan in plans if plan["role"] in ("deep", "shallow", "duodiff")):
            assert timed["plans"][plan["name"]]["gmacs"] == pytest.approx(gmacs[plan["name"]])
    assert "GMACs count matrix products alone" in (finished.data("08_reporting") / "report.html").read_text()


def test_networks_that_have_learnt_nothing_are_not_said_to_copy(finished: Project) -> None:
    """Their images all lie near to the same few real ones, so that every block says the same by luck."""
    records = json.loads((finished.data("08_reporting") / "records.json").read_text())
    shares = [record for record in records if record["expected"] is not None]
    assert len(shares) == len(records) * 2 / 7
    assert all(record["interval_low"] <= record["expected"] <= record["interval_high"] for record in shares)
    assert "Copies:" not in (finished.data("08_reporting") / "report.html").read_text()


def test_controls_cost_what_their_duodiff_costs(finished: Project) -> None:
    plans = {
        plan["name"]: plan
        for plan in json.loads((finished.data("07_model_output") / "evaluated_plans.json").read_text())
    }
    cost = pd.read_parquet(finished.data("07_model_output") / "seed_blocks.parquet").groupby("plan")["gmacs"].mean()
    controls = [plan for plan in plans.values() if plan["control_of"]]
    assert controls
    for control in controls:
        if control["nfe"] == 100:  # there are no more timesteps, and a U-Net costs more than all of them
            continue
        half_a_step = cost[control["name"]] / control["nfe"] / 2
        assert abs(cost[control["name"]] - cost[control["control_of"]]) <= max(
            half_a_step, cost[control["control_of"]] * 1e-9
        )


def test_exit_schedules_are_trained_searched_evaluated_and_reported(finished: Project) -> None:
    plans = {p["name"]: p for p in json.loads((finished.data("07_model_output") / "evaluated_plans.json").read_text())}
    blocks = pd.read_parquet(finished.data("07_model_output") / "seed_blocks.parquet").groupby("plan")
    for solver in ("ddpm", "ddim", "dpmsolver++"):
        own, whole = f"ase demo {solver} 3", f"deep {solver} 3"
        assert plans[own]["runs"] == "2 ase/3, 1 ase/4"  # at timesteps 99, 66 and 32 of 100
        assert plans[own]["resident_parameters"] == plans[whole]["resident_parameters"]
        assert blocks["gmacs"].mean()[own] < blocks["gmacs"].mean()[whole]
        assert blocks["exit_depth"].mean()[own] == pytest.approx(10 / 3)
    trials = pd.read_parquet(finished.data("08_reporting") / "trials.parquet")
    by_exits = trials[trials["edges_by"] == "exit schedule"]
    assert not by_exits.empty
    assert all(name.startswith("ase/") for serves in by_exits["serves"] for name in serves)
    candidates = pd.read_parquet(finished.data("07_model_output") / "exit_candidates.parquet")
    assert 1 <= candidates["taken"].sum() <= 6
    for page in ("report.html", "answer.md"):
        text = (finished.data("08_reporting") / page).read_text()
        assert "25 to 30 % less time at comparable FID" in text
        assert "ase demo ddpm 3" in text


def test_edges_of_decoders_are_searched_by_trainings(finished: Project) -> None:
    trials = pd.read_parquet(finished.data("07_model_output") / "edge_trials.parquet")
    first = trials[trials["checkpoint"] == 0]
    assert len(first) > 1
    assert first["goes_on"].sum() == max(1, len(first) // 2)
    assert first.loc[first["goes_on"], "fid"].max() <= first.loc[~first["goes_on"], "fid"].min()
    edges = json.loads((finished.data("07_model_output") / "multistage_edges.json").read_text())
    last = trials[trials["checkpoint"] == trials["checkpoint"].max()]
    assert edges["searched"] == last.loc[last["fid"].idxmin(), "edges"].tolist()
    network = StoredNetwork.load(finished.data("06_models") / "searched_0.safetensors")
    assert list(network.header.stage_edges) == edges["searched"]
    assert "## Edges searched" in (finished.data("08_reporting") / "multistage.md").read_text()


def test_decoders_are_searched_evaluated_and_priced(finished: Project) -> None:
    trials = pd.read_parquet(finished.data("08_reporting") / "trials.parquet")
    by_decoders = trials[trials["edges_by"] == "decoders"]
    served = {name.split("/")[0] for serves in by_decoders["serves"] for name in serves}
    assert served <= {"multistage", "searched"}
    plans = json.loads((finished.data("07_model_output") / "evaluated_plans.json").read_text())
    (own,) = [plan for plan in plans if plan["role"] == "multistage"]
    assert len(own["serves"]) > 1
    curve = json.loads(
        (finished.data("06_models") / f"{own['serves'][0].split('/')[0]}_0_training_curve.json").read_text()
    )
    assert own["training_gmacs"] == pytest.approx(curve["training_gmacs"])
    assert {plan["name"] for plan in plans if plan["control_of"] == own["name"]}
    price = (finished.data("08_reporting") / "answer.md").read_text().split("## Price")[1]
    assert f"| {own['name']} |" in price


def test_three_stages_are_searched_evaluated_and_reported(continued: Project) -> None:
    trials = pd.read_parquet(continued.data("08_reporting") / "trials.parquet")
    assert {1, 2, 3} <= set(trials["serves"].map(len))
    # what the front of such small networks holds is chance, so a schedule is chosen by hand
    path = continued.data("07_model_output") / "chosen_schedules.json"
    chosen = json.loads(path.read_text())[:1]
    three = {"solver": "ddim", "steps": 4, "edges": [70.0, 30.0], "serves": ["shallow", "middle", "deep"]}
    path.write_text(json.dumps([{**chosen[0], **three}]))
    result = continued.kedro("run", "--env", "test", "--pipelines", "evaluation,reporting")
    assert result.returncode == 0, result.stderr
    records = {r["denoiser"]: r for r in json.loads((continued.data("08_reporting") / "records.json").read_text())}
    record = records["duodiff ddim 4 k=2,3"]
    assert (record["k"], record["edges"], record["nfe"]) == (None, [70.0, 30.0], 4)
    assert records["control reversed ddim 4 k=1,2"]["gmacs"] == pytest.approx(record["gmacs"], rel=1e-9)
    metrics = json.loads((continued.data("08_reporting") / "metrics.json").read_text())
    assert metrics["searched_switch"] == {"duodiff_ddim_4_k2_3": {"edges": {"1": 70.0, "2": 30.0}}}
    report = (continued.data("08_reporting") / "report.html").read_text()
    assert "2 shallow, 1 middle, 1 deep" in report
    assert "ddim 4 k=2,3, shallow to middle" in report


def test_one_parent_run_with_trainings_and_best_trials_below_it(finished: Project) -> None:
    client = MlflowClient(f"sqlite:///{finished.root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    parent = parents[0]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["switch_search.n_trials"] == "24"
    assert {"experiment_key", "git_commit", "git_dirty", "data_sha256", "environment"} <= set(parent.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1
    assert [run.info.run_name for run in children if run.info.status != "FINISHED"] == []
    names = sorted(run.info.run_name for run in children)
    trainings = [name for name in names if name.startswith("train ")]
    trained = ["ase", "deep", "early", "early_exits", "middle", "shallow"]
    trained += ["multistage_0", "searched_0", "unified_0"]
    assert trainings == [f"train {name}" for name in sorted(trained)]
    trials = [name for name in names if name.startswith("trial ")]
    assert trials
    assert trials == sorted(set(trials))
    deep = next(run for run in children if run.info.run_name == "train deep")
    assert [point.step for point in client.get_metric_history(deep.info.run_id, "loss")] == [6, 12]
    assert client.list_artifacts(deep.info.run_id, "images")
    searched = next(run for run in children if run.info.run_name == "train searched_0")
    assert client.get_metric_history(searched.info.run_id, "loss")  # its beginning, as a candidate, was not tracked
    assert not (finished.root / "mlflow_missing").exists()
    assert "report.html" in [artifact.path for artifact in client.list_artifacts(parent.info.run_id)]


def test_a_second_run_reuses_finished_work_and_gives_the_same(continued: Project, finished: Project) -> None:
    result = continued.kedro("run", "--env", "test")
    assert result.returncode == 0
    assert "step 12 of 12" not in result.stderr
    assert results(continued) == results(finished)


def test_a_longer_search_runs_the_trials_that_are_new_and_keeps_other_parameters(continued: Project) -> None:
    result = continued.kedro(
        "run", "--env", "test", "--pipelines", "switch_search", "--params", "switch_search.n_trials=26"
    )
    assert result.returncode == 0, result.stderr
    trials = pd.read_parquet(continued.data("08_reporting") / "trials.parquet")
    assert len(trials) == 6 + 26  # of the budget and of the front
    assert re.findall(r"trial (\d+) of 26:", result.stderr) == ["25", "26"]
    assert set(trials["steps"]) <= {2, 4}
