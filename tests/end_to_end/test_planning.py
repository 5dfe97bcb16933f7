"""`kedro plan` from the command line: before a run, after it, and with a mistake; it writes nothing."""

from pathlib import Path

from .conftest import Project, copy_project


def files(project: Project) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.is_file()}


def test_a_plan_before_a_run_writes_nothing(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    before = files(project)
    result = project.run("kedro", "plan", "--env", "test", PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == 0, result.stderr
    assert files(project) == before
    assert "Nothing has been run" in result.stdout
    assert "Images: 1,198 for training and 599 held out" in result.stdout
    assert "Missing: nothing." in result.stdout
    assert "finished" not in result.stdout
    for pipeline in ("training", "early_exit", "switch_search", "evaluation", "multistage_training"):
        assert any(line.startswith(pipeline) for line in result.stdout.splitlines())


def test_after_a_run_nothing_is_left_to_train(finished: Project) -> None:
    before = files(finished)
    result = finished.run("kedro", "plan", "--env", "test", PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == 0, result.stderr
    assert files(finished) == before
    trainings = ("training ", "early_exit ", "stage_training ", "multistage_training ")
    trained = [line for line in result.stdout.splitlines() if line.startswith(trainings)]
    assert len(trained) == 10
    assert all("finished" in line for line in trained)


def test_a_mistake_ends_in_one_line(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    for arguments, message in (
        (("--env", "test", "--params", "training.batch_images=0"), "training.batch_images"),
        (("--env", "nowhere"), "nowhere"),
    ):
        result = project.run("kedro", "plan", *arguments)
        assert result.returncode != 0
        assert result.stdout == ""
        (line,) = result.stderr.strip().splitlines()
        assert message in line
