"""A search that another process takes part in, from the command line."""

from pathlib import Path

import pandas as pd

from .conftest import Project, copy_project

MORE = ("--params", "switch_search.n_trials=28")


def test_what_a_worker_did_is_the_result_of_the_run_that_it_joined(continued: Project) -> None:
    result = continued.kedro("join", "--env", "test", *MORE)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "the search has ended, with 34 trials\n"
    table = continued.data("08_reporting") / "trials.parquet"
    assert len(pd.read_parquet(table)) == 30  # a worker writes no results
    result = continued.kedro("run", "--env", "test", "--pipelines", "switch_search", *MORE)
    assert result.returncode == 0, result.stderr
    assert ", trial " not in result.stderr
    trials = pd.read_parquet(table)
    assert trials.groupby("study").size().to_dict() == {"front": 28, "within 0.5": 6}
    assert trials.loc[trials["study"] == "front", "fid"].notna().all()


def test_a_worker_that_has_nothing_to_work_on_says_so_in_one_line(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    result = project.kedro("join", "--env", "test")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "does not exist: run the pipeline that makes" in result.stderr
    result = project.kedro("dashboard", "--env", "test")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(("Error: test has no search yet", "Error: the dashboard needs optuna_dashboard"))
