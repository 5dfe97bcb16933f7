"""Killed at any moment, the same command goes on and ends like a run that was never killed."""

import os
import random
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from mlflow.tracking import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from .conftest import Project, copy_project, results

IN_CHECKPOINT = Path(__file__).parent / "killed_in_checkpoint"
PROMISE = "Stopped. The same command goes on from here"

Place = tuple[int, int]  # number of the node, and of the step, trial or block in it


@dataclass(frozen=True)
class Kill:
    """place: where the log stands; seconds: later than that; by: the signal."""

    place: Place
    seconds: float = 0.0
    by: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class KillInCheckpoint:
    """nth: checkpoint that the process writes; content: of it that is on the disk when the process is killed."""

    nth: int
    content: str


def places(log: Sequence[str]) -> list[Place]:
    """Where each line of a log stands."""
    found, node, inside = [], 0, 0
    for line in log:
        if header := re.search(r"\[(\d+)/\d+\] ", line):
            node, inside = int(header[1]), 0
        elif progress := re.search(r"(?:step|trial|block) (\d+) of \d+[,:]", line):
            inside = int(progress[1])
        found.append((node, inside))
    return found


@dataclass(frozen=True)
class Work:
    """Training steps by network, and trials."""

    steps: dict[str, int]
    trials: int

    @property
    def amount(self) -> int:
        return sum(self.steps.values()) + self.trials

    def __sub__(self, other: "Work") -> "Work":
        steps = {name: count - other.steps.get(name, 0) for name, count in self.steps.items()}
        return Work({name: count for name, count in steps.items() if count}, self.trials - other.trials)


def kept(project: Project, experiment: str, all_steps: dict[str, int]) -> Work:
    """What a next process need not do again."""
    work = project.root / "data" / ".work" / experiment
    steps = {}
    for folder in sorted(
        work.glob("train_*/*"), key=_is_finished
    ):  # of a name, what is finished, not what lost a search
        name = folder.parent.name.removeprefix("train_")
        made = [int(path.stem) for path in folder.glob("*.ckpt")]
        steps[name] = all_steps[name] if _is_finished(folder) else max(made, default=0)
    trials = [t for t in _trials(project, experiment) if t.state.is_finished()]
    return Work({name: count for name, count in steps.items() if count}, len(trials))


def _is_finished(training: Path) -> bool:
    return (training / "result.json").is_file()


def executed(log: Sequence[str]) -> Work:
    """What a process did that logged this up to its end."""
    steps: dict[str, int] = {}
    name, trials = "", 0
    for line in log:
        if header := re.search(r"\[\d+/\d+\] (?:train (?:backbone: |for stage: |stages: )?|fine tune: )(.+)", line):
            name = header[1].strip().replace(" ", "_")
        elif first := re.search(r"going on from step (\d+) of", line):
            steps[name] = -int(first[1])
        elif last := re.search(r"step (\d+) of \1,", line):
            steps[name] = steps.get(name, 0) + int(last[1])
        elif re.search(r"trial \d+ of \d+:", line):
            trials += 1
    return Work({name: count for name, count in steps.items() if count}, trials)


def kill(project: Project, command: Sequence[str], how: Kill | KillInCheckpoint) -> list[str]:
    """Run the command until it is killed; returns what it had logged."""
    if isinstance(how, KillInCheckpoint):
        paths = f"{IN_CHECKPOINT}{os.pathsep}{project.environment['PYTHONPATH']}"
        watched = {"PYTHONPATH": paths, "KILLED_IN_CHECKPOINT": f"{how.nth} {how.content}"}
        process = project.begin(*command, **watched)
        assert process.stderr is not None
        log = process.stderr.readlines()
        assert process.wait() == -signal.SIGKILL, "".join(log)
        assert list((project.root / "data" / ".work").rglob("*.ckpt.*.part"))
        return log
    process = project.begin(*command)
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if places(log)[-1] >= how.place:
            time.sleep(how.seconds)
            process.send_signal(how.by)
            break
    log += process.stderr.readlines()
    status = process.wait()
    if how.by == signal.SIGKILL:
        assert status == -how.by, "".join(log)
    else:
        assert status == 128 + how.by, "".join(log)
        assert log[-1].startswith(PROMISE)
        assert "Traceback" not in "".join(log)
    return log


def go_on(project: Project, command: Sequence[str], experiment: str, whole: Work) -> None:
    """Run to the end: what was kept is not done again, and all the rest is."""
    before = kept(project, experiment, whole.steps)
    result = project.run(*command)
    assert result.returncode == 0, result.stderr
    assert before.amount > 0
    assert executed(result.stderr.splitlines()) == whole - before
    assert list((project.root / "data" / ".work").rglob("*.ckpt.*.part")) == []


def require_same(project: Project, reference: Project, experiment: str) -> None:
    """All results, the whole state of every training, the trials, and one tracked run without doubles."""
    ended, expected = results(project), results(reference)
    assert sorted(ended) == sorted(expected)
    assert [name for name in ended if ended[name] != expected[name]] == []
    states, expected_states = _training_states(project, experiment), _training_states(reference, experiment)
    assert sorted(states) == sorted(expected_states)
    for name, state in states.items():
        _require_equal(state, expected_states[name], name)
    trials, expected_trials = _trials(project, experiment), _trials(reference, experiment)
    assert [(t.number, t.params, t.state, t.values) for t in trials] == [
        (t.number, t.params, t.state, t.values) for t in expected_trials
    ]
    assert all(trial.state.is_finished() for trial in trials)
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert [run.info.run_name for run in runs if run.info.status != "FINISHED"] == []
    assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 1
    assert len({run.info.run_name for run in runs}) == len(runs)


def _trials(project: Project, experiment: str) -> list[optuna.trial.FrozenTrial]:
    """Of all studies, in the order in which they began."""
    found = list((project.root / "data" / ".work" / experiment / "switch_search").glob("*/journal.log"))
    if not found:
        return []
    (journal,) = found
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]


def _training_states(project: Project, experiment: str) -> dict[str, Any]:
    """Of the last checkpoints: raw and averaged weights, optimiser, learning rate; no seconds."""
    states = {}
    for path in (project.root / "data" / ".work" / experiment).glob("train_*/*/*.ckpt"):
        loaded = torch.load(path, weights_only=True)
        states[f"{path.parent.parent.name}/{path.name}"] = {
            part: loaded[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
        }
    return states


def _require_equal(a: Any, b: Any, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert sorted(map(str, a)) == sorted(map(str, b)), where
        for key in a:
            _require_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            _require_equal(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


RUN = ("kedro", "run", "--env", "test")


def log_of(finished: Project) -> list[str]:
    return (finished.root / "stderr.txt").read_text().splitlines()


def first_of(log: Sequence[str], words: str) -> Place:
    return next(place for line, place in zip(log, places(log), strict=True) if words in line)


def test_killed_in_every_part_it_ends_as_if_it_had_not_been(finished: Project, tmp_path: Path) -> None:
    project, log = copy_project(tmp_path), log_of(finished)
    whole = executed(log)
    middle, _ = first_of(log, "train backbone: middle")
    search, _ = first_of(log, "search switch")
    evaluation, _ = first_of(log, "measure plans")
    progress = 0
    for how in (
        KillInCheckpoint(2, "half"),  # of the deep network; the first one counts
        Kill((middle, 6), by=signal.SIGTERM),
        Kill((search, 5)),
        Kill((evaluation, 3), by=signal.SIGINT),
    ):
        kill(project, RUN, how)
        done = kept(project, "test", whole.steps).amount
        assert done > progress or how.place[0] == evaluation
        progress = done
    go_on(project, RUN, "test", whole)
    require_same(project, finished, "test")


def test_changed_parameters_and_changed_code_train_anew(continued: Project) -> None:
    train = (*RUN, "--pipelines", "training")
    network = continued.data("06_models") / "shallow.safetensors"

    def trained(*more: str) -> tuple[set[str], bytes]:
        result = continued.run(*train, *more)
        assert result.returncode == 0, result.stderr
        return set(executed(result.stderr.splitlines()).steps), network.read_bytes()

    none, as_before = trained()
    assert none == set()
    changed, with_other_rate = trained("--params", "training.learning_rate=2e-3")
    assert changed == {"deep", "middle", "shallow"}
    assert with_other_rate != as_before
    code = continued.root / "src" / "duodiff_pipeline" / "training" / "modules.py"
    code.write_text(code.read_text().replace("keepdim=True)", "keepdim=True) * 2"))
    changed, with_other_code = trained()
    assert changed == {"deep", "middle", "shallow"}
    assert with_other_code != as_before


@pytest.mark.parametrize(("waits", "other"), [("test", "test"), ("test", "elsewhere")])
def test_two_runs_at_once_do_not_share_an_experiment(tmp_path: Path, waits: str, other: str) -> None:
    project = copy_project(tmp_path)
    (project.root / "conf" / "elsewhere").mkdir()
    for name in ("globals", "parameters"):
        text = (project.root / "conf" / "test" / f"{name}.yml").read_text()
        (project.root / "conf" / "elsewhere" / f"{name}.yml").write_text(text.replace(": test", ": elsewhere"))
    process = project.begin(*RUN, "--pipelines", "data_preparation")
    assert process.stderr is not None
    process.stderr.readline()  # the lock is taken by then
    process.send_signal(signal.SIGSTOP)
    try:
        result = project.run("kedro", "run", "--env", other, "--pipelines", "data_preparation")
    finally:
        process.send_signal(signal.SIGCONT)
    if other == waits:
        assert result.returncode == 1
        assert result.stderr == (
            "Error: another run of test is at work in this folder: wait until it ends, or stop it; "
            "this command then goes on where it was\n"
        )
    else:
        assert result.returncode == 0, result.stderr
    assert process.wait() == 0, process.stderr.read()
    assert project.data("03_primary").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(6))
def test_killed_at_random_moments(finished: Project, tmp_path: Path, chain: int) -> None:
    """Five moments a chain: thirty in all, three or more of them in a checkpoint and in the search."""
    project, log = copy_project(tmp_path), log_of(finished)
    whole = executed(log)
    rng = random.Random(chain)
    search, _ = first_of(log, "search switch")
    begun = [place for place in sorted(set(places(log))) if first_of(log, "step 6 of 12") <= place <= (search + 3, 7)]
    random_places = sorted(rng.sample([place for place in begun if place[0] != search], 3))
    how: list[Kill | KillInCheckpoint] = [
        Kill(place, rng.uniform(0, 0.2), rng.choice([signal.SIGKILL, signal.SIGTERM])) for place in random_places
    ]
    how += [Kill((search, rng.randint(1, 11)), by=rng.choice([signal.SIGKILL, signal.SIGTERM]))]
    how = sorted(how, key=lambda each: each.place)
    how.insert(0, KillInCheckpoint(rng.randint(2, 3), rng.choice(["half", "all"])))
    progress = Work({}, 0)
    for each in how:
        kill(project, RUN, each)
        done = kept(project, "test", whole.steps)
        assert done.amount > 0
        assert done.trials >= progress.trials
        assert all(done.steps[name] >= steps for name, steps in progress.steps.items())
        progress = done
    go_on(project, RUN, "test", whole)
    require_same(project, finished, "test")


@pytest.mark.slow
def test_killed_three_times_on_digits(tmp_path: Path) -> None:
    run = ("kedro", "run")
    reference, project = copy_project(tmp_path / "reference"), copy_project(tmp_path / "killed")
    result = reference.run(*run)
    assert result.returncode == 0, result.stderr
    log = result.stderr.splitlines()
    whole = executed(log)
    rng = random.Random(0)
    for words, last in (("train backbone: middle", 5000), ("search switch", 50), ("measure plans", 7)):
        node, _ = first_of(log, words)
        kill(project, run, Kill((node, rng.randint(1, last)), rng.uniform(0, 5)))
        assert kept(project, "digits", whole.steps).amount > 0
    go_on(project, run, "digits", whole)
    require_same(project, reference, "digits")
