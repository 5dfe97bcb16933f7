"""Sweeps and finding past runs, on a store of their own; members stand in by what their runs would leave."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from duodiff_pipeline import sweep, tracking
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.metrics.records import MetricRecord
from duodiff_pipeline.past_runs import PastRuns
from duodiff_pipeline.settings import CONFIG_LOADER_ARGS
from duodiff_pipeline.sweep import plan_sweep, run_sweep

PROJECT = Path(__file__).parents[1]
GRID = ("backbones.shallow.depth=1,3",)


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(tracking, "_current", tracking.Run())


def plan(*grid: str) -> list[sweep.Member]:
    return plan_sweep(grid, "test", CONFIG_LOADER_ARGS)


def test_every_combination_is_a_member_named_by_what_differs() -> None:
    members = plan("backbones.shallow.depth=1,3", "training.min_snr_gamma=null,2.5", "seed=4")
    assert [member.name for member in members] == [
        "depth=1 (backbones.shallow), min_snr_gamma=null (training)",
        "depth=1 (backbones.shallow), min_snr_gamma=2.5 (training)",
        "depth=3 (backbones.shallow), min_snr_gamma=null (training)",
        "depth=3 (backbones.shallow), min_snr_gamma=2.5 (training)",
    ]
    assert members[2].overrides == "backbones.shallow.depth=3,training.min_snr_gamma=null,seed=4"
    parameters = members[2].parameters
    assert parameters["backbones"]["shallow"] == {"patch": 4, "width": 16, "depth": 3, "heads": 2, "steps": 12}
    assert (parameters["training"]["min_snr_gamma"], parameters["seed"]) == (None, 4)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["depth"], "'depth' is no parameter with values: write key=1,3,5"),
        (["seed=1,,2"], "'seed=1,,2' is no parameter with values"),
        (["seed=1"], "a sweep needs two members or more"),
        (["seed=1,01"], "no two the same"),
        (["seed=1,2", "seed=3,4"], "each parameter once"),
        (
            ["backbones.shallow.depth=1,2"],
            "depth=2 (backbones.shallow): parameters: backbones.shallow: depth 2 is even",
        ),
        (["sead=1,2"], "sead=1: parameters: sead: unknown parameter"),
        (["evaluation.seeds=[1,2],[3,4]"], "lists of several cannot be swept"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(grid: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(*grid)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


class Members:
    """Stands in for the processes: each leaves one record, but for those that are to fail."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.client = MlflowClient(tracking.store_uri(project))
        self.folder, self.failing, self.ran = folder, set[str](), list[str]()

    def __call__(self, command: Sequence[str], environment: dict[str, str]) -> int:
        overrides = command[-1]
        self.ran.append(overrides)
        if overrides in self.failing:
            return 1
        (self.folder / "records.json").write_text(json.dumps([record(0.5 + len(self.ran))]))
        (self.folder / "metrics.json").write_text(json.dumps({"recommendation": {"verdict": "switch", "plan": "deep"}}))
        self.client.log_artifacts(environment["MLFLOW_RUN_ID"], str(self.folder))
        return 0


def record(value: float) -> dict[str, Any]:
    sides = {"value": value, "interval_low": value - 0.1, "interval_high": value + 0.1, "gmacs": 0.1}
    counts = {"n_generated": 32, "n_reference": 64, "steps": 4, "nfe": 4, "k": None, "micro_batch_images": 16}
    hashes = {"extractor_sha256": "a" * 64, "reference_sha256": "b" * 64}
    names = {"extractor": "classifier", "denoiser": "deep", "solver": "ddim", "solver_conventions": "trailing"}
    method = {"interval_method": "Student t, 95%, 5 seed blocks", "seeds": (1, 2, 3, 4, 5), "edges": ()}
    return MetricRecord(name="fid", weights="ema", **sides, **counts, **hashes, **names, **method).model_dump(
        mode="json"
    )


def test_a_member_that_fails_stops_no_other_and_the_same_command_mends_the_sweep(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = plan("backbones.shallow.depth=1,3,5")
    grid = ["backbones.shallow.depth=1,3,5"]
    processes = Members(project, tmp_path)
    monkeypatch.setattr(sweep, "run_process", processes)
    processes.failing = {"backbones.shallow.depth=3"}
    with pytest.raises(
        InputError, match=r"1 of 3 members failed: depth=3 \(backbones.shallow\). The others are compared"
    ):
        run_sweep(project, "test", "swept", grid, members)
    assert processes.ran == [f"backbones.shallow.depth={depth}" for depth in (1, 3, 5)]

    processes.failing, processes.ran = set(), []
    page = run_sweep(project, "test", "swept", grid, members)
    assert processes.ran == [f"backbones.shallow.depth={depth}" for depth in (1, 3, 5)]
    assert "depth=3 (backbones.shallow)" in page.read_text()
    client = processes.client
    runs = client.search_runs([client.get_experiment_by_name("swept").experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [(run.info.run_name, run.info.status) for run in parents] == [
        ("sweep depth=1,3,5 (backbones.shallow)", "FINISHED")
    ]
    below = {run.info.run_name: run.info.status for run in runs if run not in parents}
    assert below == {f"depth={depth} (backbones.shallow)": "FINISHED" for depth in (1, 3, 5)}
    assert len(runs) == 4
    assert page.name in [entry.path for entry in client.list_artifacts(parents[0].info.run_id)]


def test_a_sweep_without_a_store_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "run_process", Members(tmp_path, tmp_path))
    (tmp_path / "mlflow.db").write_bytes(b"garbage " * 2000)
    with pytest.raises(InputError, match=r"keeps its results in MLflow, but sqlite.* does not answer"):
        run_sweep(tmp_path, "test", "swept", GRID, plan(*GRID))


# finding past runs


@pytest.fixture(scope="module")
def told(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Ids by name of runs in the experiment `found`: two with results, one that failed, and two of one name."""
    results = tmp_path_factory.mktemp("results")
    (results / "records.json").write_text(json.dumps([record(0.5)]))
    (results / "metrics.json").write_text(json.dumps({"recommendation": {"verdict": "switch", "plan": "deep"}}))
    ids = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setattr(tracking, "_current", tracking.Run())
        for name, status in (("old", "FINISHED"), ("new", "FINISHED"), ("broken", "FAILED"), ("twin", "FAILED")):
            for number in range(2 if name == "twin" else 1):
                run = tracking.start(project, "found", f"{name} {number}", name)
                run.log_params({"a": name})
                if status == "FINISHED":
                    run.log_folder(results)
                    with run.child("train deep") as child:
                        child.log_metrics({"loss": 0.7}, 6)
                        child.log_metrics({"loss": 0.5}, 3)
                run.end(status)
                ids[name] = run.run_id
    return ids


def test_runs_are_found_by_id_beginning_name_and_place(project: Path, told: dict[str, str]) -> None:
    runs = PastRuns(project)
    for names in (["old", "new"], [told["old"], told["new"]], [told["old"][:12], "latest"], ["latest~1", "latest~0"]):
        assert [run.name for run in runs.find(names, "found")] == ["old", "new"]
    (found,) = runs.find(["new", "latest", told["new"]], "found")
    assert (found.params, found.losses) == ({"a": "new"}, {"deep": [(3, 0.5), (6, 0.7)]})
    assert (found.recommendation["plan"], found.records[0].value) == ("deep", 0.5)
    assert (found.blocks, found.exits) == (None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "no run has the name 'nobody', or an id that begins so; the newest are"),
        ("", "no run has the name ''"),
        ("twin", "'twin' is 2 runs, name one by its id"),
        ("broken", "has no records to compare: it is failed, and made no report"),
        ("latest~2", "there is no 'latest~2': the experiment 'found' has 2 finished runs with a report"),
    ],
)
def test_a_run_that_is_none_or_several_is_refused(project: Path, told: dict[str, str], name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        PastRuns(project).find(["old", name], "found")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mlflow\.db does not exist: no run was tracked yet"):
        PastRuns(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").write_bytes(b"garbage " * 2000)
    with pytest.raises(InputError, match="cannot be read"):
        PastRuns(tmp_path)
