"""Several processes train as one does: the same losses, one set of files, and an end for all where one of them ends."""

import errno
import math
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from hardware_examples import KINDS, PIXELS, batches, run, training, weights

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.training.fit import Hardware, fit
from duodiff_pipeline.training.modules import NoisePrediction

HERE = Path(__file__).parent


def draw(averaged: torch.nn.Module) -> torch.Tensor:
    return PIXELS[:2]


def keep(path: Path, averaged: torch.nn.Module) -> None:
    with path.open("x") as file:  # a second process would fail
        file.write(str(os.getpid()))


def assert_same(shared, alone) -> None:
    """Weights, averages and losses of two trainings, up to the order of sums."""
    for one, other in ((shared[0].raw, alone[0].raw), (shared[0].ema, alone[0].ema)):
        torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=1e-5)
    steps = [[step for step, _ in fitted.losses] for _, fitted, _ in (shared, alone)]
    assert steps[0] == steps[1]
    for (_, found), (_, expected) in zip(shared[1].losses, alone[1].losses, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_two_processes_train_as_one_and_write_one_set_of_files(tmp_path, caplog):
    alone = run("exit schedule", 50, tmp_path / "alone")
    caplog.set_level("INFO", "duodiff_pipeline")
    caplog.clear()
    kept = {7: partial(keep, tmp_path / "kept")}
    shared = run("exit schedule", 50, tmp_path / "shared", 20, draw, kept, devices=2, gradient_accumulation=2)
    assert_same(shared, alone)
    _, fitted, observer = shared
    assert len(fitted.losses) == 50
    assert observer.losses == dict(fitted.losses)
    assert observer.drawn == list(range(1, 51))
    assert (fitted.first_step, fitted.seconds > 0) == (0, True)
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["50.ckpt"]
    assert int((tmp_path / "kept").read_text()) != os.getpid()
    told = [record.message.split(",")[0] for record in caplog.records if record.message.startswith("step ")]
    assert told == [f"step {step} of 50" for step in range(1, 51)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exit schedule"])
def test_every_kind_of_training_is_the_same_in_two_processes(tmp_path, kind):
    alone = run(kind, 50, tmp_path / "alone")
    assert_same(run(kind, 50, tmp_path / "shared", devices=2), alone)


class StopsAt(NoisePrediction):
    """Stops one process, or all, at a step."""

    step, rank, how = 0, 0, "raise"

    def means(self, batch):
        if self.global_step + 1 == self.step and self.rank in (None, torch.distributed.get_rank()):
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "nan":
                return super().means(batch) * math.nan
            if self.how == "full":
                raise OSError(errno.ENOSPC, "No space left on device", "5.ckpt")
            raise KeyError("nothing")
        return super().means(batch)


def stopped(folder: Path, devices: int = 2, **how) -> None:
    module = training("backbone", 20)
    module.__class__ = StopsAt
    for name, value in how.items():
        setattr(module, name, value)
    fit(module, batches("backbone", 20), Hardware("cpu", devices, "32-true"), folder, 5, Watcher(), 1)


class Watcher:
    def log_metrics(self, values, step):
        pass

    def log_images(self, name, images_u8, step):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"how": "raise", "rank": 1}, RuntimeError, "KeyError: 'nothing'"),
        ({"how": "full", "rank": 0}, OSError, r"No space left on device: '5\.ckpt'"),
        ({"how": "kill", "rank": 1}, InputError, "process 2 of 2 ended by SIGKILL, out of memory perhaps: the same "),
        ({"how": "kill", "rank": 0}, InputError, "process 1 of 2 ended by SIGKILL, out of memory perhaps: the same "),
        ({"how": "nan", "rank": 1}, InputError, r"the loss is nan at training step 8: .*5\.ckpt keeps the weights"),
    ],
)
def test_one_process_that_fails_ends_all_with_one_message_and_another_number_goes_on(tmp_path, how, error, message):
    with pytest.raises(error, match=message):
        stopped(tmp_path / "work", step=8, **how)
    assert active_children() == []
    alone = run("backbone", 20, tmp_path / "alone")
    _, fitted, observer = resumed = run("backbone", 20, tmp_path / "work", 5, gradient_accumulation=4)
    assert fitted.first_step == 5
    assert sorted(observer.losses) == list(range(6, 21))
    assert_same(resumed, alone)


@pytest.mark.slow
def test_a_training_of_one_process_goes_on_in_two(tmp_path):
    alone = run("backbone", 20, tmp_path / "alone")
    with pytest.raises(ConnectionError):
        run("backbone", 20, tmp_path / "work", 5, observer=Interrupts())
    resumed = run("backbone", 20, tmp_path / "work", 5, devices=2)
    assert resumed[1].first_step == 10
    assert_same(resumed, alone)


class Interrupts(Watcher):
    def log_metrics(self, values, step):
        if step == 12:
            raise ConnectionError


LONG = """
import sys
sys.path.insert(0, {here!r})
from hardware_examples import Observer, run
from duodiff_pipeline.stopping import stoppable
from pathlib import Path
class Telling(Observer):
    def log_metrics(self, values, step):
        print(step, flush=True)
if __name__ == "__main__":
    with stoppable():
        run("backbone", 100_000, Path({work!r}), observer=Telling(), devices=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGKILL, False)],
)
def test_a_signal_ends_all_processes(tmp_path, number, to_all):
    """To all, as Ctrl-C in a terminal; to the command alone, as from another program."""
    (tmp_path / "long.py").write_text(LONG.format(here=str(HERE), work=str(tmp_path / "work")))
    command = [sys.executable, str(tmp_path / "long.py")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        assert process.stdout.readline()  # the first step is made
        ranks = children(process.pid)
        assert len(ranks) >= 2
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, said = process.communicate()
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert said.startswith("Stopped. The same command goes on from here")
        assert len(said.splitlines()) == 1
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in ranks):
            break
        time.sleep(0.1)
    else:
        raise AssertionError(f"{ranks} are left over")


def children(pid: int) -> list[int]:
    """Processes that another one started and that train: what keeps track of shared memory is none of them."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = re.search(r"PPid:\s+(\d+)", status.read_text())
            command = (status.parent / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if parent and int(parent[1]) == pid and "spawn_main" in command:
            found.append(int(status.parent.name))
    return found
