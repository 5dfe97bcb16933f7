"""A sweep and a comparison from the command line."""

import json
import re
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from duodiff_pipeline.past_runs import PastRuns

from .conftest import Project, copy_project


@pytest.fixture(scope="module")
def swept(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the finished project after a sweep over the depth of a network."""
    root = tmp_path_factory.mktemp("swept") / "project"
    shutil.copytree(finished.root, root)
    project = Project(root)
    result = project.kedro("sweep", "backbones.shallow.depth=1,3", "--env", "test")
    assert result.returncode == 0, result.stderr
    (project.root / "stdout.txt").write_text(result.stdout)
    (project.root / "stderr.txt").write_text(result.stderr)
    return project


def test_members_hang_under_one_run_and_trainings_under_members(swept: Project) -> None:
    client = MlflowClient(f"sqlite:///{swept.root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    (parent,) = (run for run in runs if run.info.run_name == "sweep depth=1,3 (backbones.shallow)")
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"backbones.shallow.depth": "1,3"}
    members = {run.info.run_name: run for run in runs if _parent(run) == parent.info.run_id}
    assert sorted(members) == ["depth=1 (backbones.shallow)", "depth=3 (backbones.shallow)"]
    for depth in (1, 3):
        member = members[f"depth={depth} (backbones.shallow)"]
        assert member.info.status == "FINISHED"
        assert member.data.params["backbones.shallow.depth"] == str(depth)
        command = f"kedro run --env test --params backbones.shallow.depth={depth}"
        assert member.data.tags["mlflow.source.name"] == command
        below = {run.info.run_name for run in runs if _parent(run) == member.info.run_id}
        assert {"train deep", "train middle", "train shallow", "train early_exits"} <= below
        artifacts = {entry.path for entry in client.list_artifacts(member.info.run_id)}
        assert {"report.html", "records.json", "tables"} <= artifacts
    (last,) = PastRuns(swept.root).find([members["depth=3 (backbones.shallow)"].info.run_id], "test")
    assert last.suggested == json.loads((swept.data("07_model_output") / "loss_gap_switches.json").read_text())
    assert set(last.curves["role"]) == {"shallow", "middle", "deep", "duodiff", "reversed", "early"}


def test_what_members_share_is_done_once(swept: Project) -> None:
    trained = re.findall(r"step 12 of 12", (swept.root / "stderr.txt").read_text())
    assert len(trained) == 1  # the one network that is new: all others were trained in the finished project


def test_the_sweep_ends_with_a_page_of_its_members(swept: Project) -> None:
    path = (swept.root / "stdout.txt").read_text().splitlines()[-1].removeprefix("comparison of the 2 members: ")
    page = (swept.root / path).read_text()
    assert "<h1>2 runs, 1 parameter differs: backbones.shallow.depth</h1>" in page
    assert "the same, in every block" in page  # networks that the sweep does not touch
    assert "paired: " in page  # the one that it does
    assert page.count("<svg") == 3


@pytest.mark.slow
def test_a_sweep_over_training_seeds_ends_with_what_holds_over_them(finished: Project, tmp_path: Path) -> None:
    shutil.copytree(finished.root, tmp_path / "project")
    project = Project(tmp_path / "project")
    result = project.kedro("sweep", "seed=0,1,2", "--env", "test")
    assert result.returncode == 0, result.stderr
    page, claims = (project.root / line.split(": ")[1] for line in result.stdout.splitlines()[-2:])
    assert "<h2>Over training seeds</h2>" in page.read_text()
    text = claims.read_text()
    assert "Of 3 trainings, with the seeds 0, 1 and 2; each was measured in 5 seed blocks of 32 generated" in text
    assert "## ddim, 3 steps" in text
    claimed = re.findall(r"^\| (.*?) \| (.*?) \| .* (?:holds|contradicted|open) \|$", text, re.MULTILINE)
    assert {
        ("shallow worse than deep", "as many steps"),
        ("DuoDiff better than the order reversed", "mean of 1 of 2 switches"),
        ("DuoDiff worse than deep of as many steps", "suggested switch"),
    } <= set(claimed)
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    (parent,) = (run for run in runs if run.info.run_name == "sweep seed=0,1,2")
    kept = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    assert kept == {page.name, claims.name}
    again = project.kedro("compare", "--env", "test", "sweep seed=0,1,2")
    assert again.returncode == 0, again.stderr
    assert claims.read_text() == text


def test_a_run_and_a_member_compare(swept: Project) -> None:
    result = swept.kedro("compare", "--env", "test", "latest", "depth=3 (backbones.shallow)")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    page = (swept.root / line.removeprefix("comparison: ")).read_text()
    assert "backbones.shallow.depth</h1>" in page
    assert re.search(r"<td>1</td>\s*<td>3</td>", page)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "latest"], "Error: a comparison needs two runs or more: only test "),
        (["sweep", "backbones.shallow.depth=1,2"], "Error: depth=2 (backbones.shallow): parameters: "),
    ],
)
def test_a_mistake_ends_in_one_line(finished: Project, arguments: list[str], message: str) -> None:
    result = finished.kedro(*arguments, "--env", "test")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith(message)


def test_without_a_store_there_is_nothing_to_compare(tmp_path) -> None:
    project = copy_project(tmp_path)
    result = project.kedro("compare", "a", "b")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "mlflow.db does not exist" in result.stderr
    assert not (tmp_path / "mlflow.db").exists()


def _parent(run) -> str | None:
    return run.data.tags.get("mlflow.parentRunId")
