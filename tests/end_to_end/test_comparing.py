"""A sweep and a comparison from the command line."""

import re
import shutil

import pytest
from mlflow.tracking import MlflowClient

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
