"""An experiment on two devices, from the command line: the same images, and trainings that differ by rounding alone."""

import json
import os
import re
import shutil

import pytest
from mlflow.tracking import MlflowClient
from safetensors.numpy import load_file

from .conftest import Project, results

pytestmark = [pytest.mark.slow, pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")]
TWO = ("--params", "hardware.devices=2")
BEGIN = "2 processes begin, with a device each"


def forget(project: Project, *nodes: str) -> None:
    for node in nodes:
        shutil.rmtree(project.data(".work") / node)


def run_on_two(project: Project, *what: str) -> str:
    """The log, of which every line begins with the time: nothing else is said, and by nobody else."""
    result = project.kedro("run", "--env", "test", *what, *TWO)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d \S", line)] == []
    return result.stderr


def test_two_devices_draw_the_images_of_one(finished: Project, continued: Project) -> None:
    forget(continued, "switch_search", "switch_curves", "evaluation")
    log = run_on_two(continued, "--pipelines", "switch_search,switch_curves,evaluation,reporting")
    assert log.count(BEGIN) == 2  # trials draw less than two micro-batches at once here
    assert results(continued) == results(finished)


def test_two_processes_that_train_leave_one_set_of_files_and_one_tracked_run(
    finished: Project, continued: Project
) -> None:
    tracked = MlflowClient(f"sqlite:///{continued.root}/mlflow.db")
    (experiment,) = tracked.search_experiments(filter_string="name = 'test'")
    before = len(tracked.search_runs([experiment.experiment_id]))
    forget(continued, "train_shallow")
    log = run_on_two(continued, "--nodes", "shallow.train")
    assert log.count(BEGIN) == log.count("[1/1]") == 1
    assert re.findall(r"step (\d+) of 12", log) == ["6", "12"]
    assert len(tracked.search_runs([experiment.experiment_id])) == before + 2  # the run and its training

    found, expected = results(continued), results(finished)
    assert found.keys() == expected.keys()
    changed = {name for name in found if found[name] != expected[name]}
    assert changed <= {"06_models/test/shallow.safetensors", "06_models/test/shallow_training_curve.json"}
    one, two = (load_file(project.data("06_models") / "shallow.safetensors") for project in (finished, continued))
    assert all(abs(two[name] - one[name]).max() < 1e-5 for name in one)
    curves = [
        json.loads((project.data("06_models") / "shallow_training_curve.json").read_text())
        for project in (finished, continued)
    ]
    for (step, loss), (same_step, same_loss) in zip(*(curve["losses"] for curve in curves), strict=True):
        assert (same_step, same_loss) == (step, pytest.approx(loss, rel=1e-5))
