"""The code that a result is said to come from."""

import subprocess
from pathlib import Path

import pytest

from duodiff_pipeline.provenance import git_state


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit of a file of code and one of data."""
    for name in ("src/code.py", "data/08_reporting/metrics.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("committed")
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "one")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_code_changed_by_hand_is_told(repository: Path) -> None:
    assert git_state(repository)["dirty"] is False
    (repository / "src/code.py").write_text("changed")
    assert git_state(repository)["dirty"] is True


def test_results_of_a_run_are_no_change_of_the_code(repository: Path) -> None:
    """Otherwise only the first run after a commit could be traced."""
    (repository / "data/08_reporting/metrics.json").write_text("of this run")
    assert git_state(repository)["dirty"] is False


def test_without_a_repository_both_are_none(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": "none", "dirty": "none"}
