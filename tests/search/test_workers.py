"""Three processes share a study, in a journal and in a PostgreSQL database, and one of them is killed."""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.search import leases
from duodiff_pipeline.search.leases import WORKER, Leases
from duodiff_pipeline.search.space import SearchSpace
from duodiff_pipeline.search.storage import JOURNAL, open_storage
from duodiff_pipeline.search.study import Study, run_study

SPACE = SearchSpace(("ddim",), (5, 10), ("shallow", "middle", "deep"), (), NoiseSchedule())
TRIALS = 24
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]


class Work:
    """A worker's: writes down what it begins and what it has measured, and takes its time in between."""

    def __init__(self, folder: Path, seconds: float):
        self.folder, self.seconds = folder, seconds

    def __call__(self, trial):
        plan = SPACE.suggest(trial).plan
        with (self.folder / "begun.txt").open("a") as begun:
            begun.write(f"{trial.number}\n")
        time.sleep(self.seconds)
        with (self.folder / "measured.txt").open("a") as measured:
            measured.write(f"{trial.number}\n")
        return (float(len(plan.grid)),)


def take_part(folder: Path, url: str | None, seconds: float = 0.05, n_trials: int = TRIALS):
    study = Study("shared", ("fid",), n_trials, SPACE.anchors(), SPACE.may_sample)
    return run_study(open_storage(folder, url, str(folder)), study, 0, Work(folder, seconds))


def worker(folder: Path, url: str | None) -> None:
    """In a process of its own: a fork, which has all imports."""
    os._exit(0 if take_part(folder, url) else 1)


def begin(folder: Path, url: str | None, count: int) -> list:
    processes = [multiprocessing.get_context("fork").Process(target=worker, args=(folder, url)) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


def wait_for(folder: Path, trials: int) -> None:
    while len((folder / "begun.txt").read_text().split() if (folder / "begun.txt").is_file() else []) < trials:
        time.sleep(0.01)


def numbers(path: Path) -> Counter:
    return Counter(map(int, path.read_text().split()))


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own, which refuses to run as root."""
    (binaries,) = POSTGRES
    data, sockets = folder / "data", folder / "s"
    as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    for path in (data, sockets):
        path.mkdir()
        if as_user:
            shutil.chown(path, "nobody", "nogroup")

    def run(*command: object) -> None:
        done = subprocess.run([*as_user, *map(str, command)], cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(binaries / "initdb", "-D", data, "-U", "search", "--auth=trust", "--no-sync")
    options = f"-k {sockets} -c listen_addresses='' -c fsync=off"
    run(binaries / "pg_ctl", "-D", data, "-o", options, "-l", data / "log", "-w", "start")
    try:
        yield f"postgresql://search@/postgres?host={sockets}"
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.fixture(params=["journal", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "journal":
        yield None
        return
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin")
    pytest.importorskip("psycopg")
    folder = Path(f"/tmp/search_{os.getpid()}")  # the path of a socket must be short, and others must reach it
    folder.mkdir(mode=0o755)
    try:
        with database(folder) as place:
            yield place
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("moment", range(2))
def test_three_workers_of_which_one_is_killed_lose_no_trial_and_double_none(tmp_path, url, moment):
    rng = random.Random(moment)
    processes = begin(tmp_path, url, 3)
    wait_for(tmp_path, rng.randint(2, TRIALS // 2))
    time.sleep(rng.uniform(0, 0.1))
    victim = rng.choice(processes)
    os.kill(victim.pid, signal.SIGKILL)
    for process in processes:
        process.join(120)
    assert sorted(process.exitcode for process in processes) == [-signal.SIGKILL, 0, 0]
    trials = take_part(tmp_path, url)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    begun, measured = numbers(tmp_path / "begun.txt"), numbers(tmp_path / "measured.txt")
    assert set(measured) == set(range(TRIALS))
    assert sum(begun.values()) <= TRIALS + 1  # that of the victim, once more
    assert sum(measured.values()) <= TRIALS + 1  # where it was killed after measuring and before it had told
    assert {trial.system_attrs[WORKER]["pid"] for trial in trials} <= {process.pid for process in processes}


def test_workers_that_join_later_extend_the_study_and_stop_at_the_shared_number(tmp_path, url):
    take_part(tmp_path, url, 0, 5)
    processes = begin(tmp_path, url, 3)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert numbers(tmp_path / "measured.txt") == Counter(range(TRIALS))
    assert len(take_part(tmp_path, url)) == TRIALS


def test_one_worker_proposes_the_same_in_a_database_as_in_a_journal(tmp_path, url):
    (tmp_path / "other").mkdir()
    expected, trials = take_part(tmp_path / "other", None, 0), take_part(tmp_path, url, 0)
    assert [(t.number, t.params, t.values) for t in trials] == [(t.number, t.params, t.values) for t in expected]


@pytest.mark.parametrize("url", ["journal"], indirect=True)
def test_a_worker_killed_while_it_holds_the_lock_lets_the_others_go_on_at_once(tmp_path, url):
    shared = open_storage(tmp_path, url, "key")
    take_part(tmp_path, url, 0, 2)
    child = os.fork()
    if child == 0:
        with open_storage(tmp_path, url, "key").alone():
            (tmp_path / "held").touch()
            time.sleep(60)
    while not (tmp_path / "held").is_file():
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    started = time.monotonic()
    with shared.alone():
        assert time.monotonic() - started < 5
    assert len(take_part(tmp_path, url, 0, 4)) == 4


def running(tmp_path, **worker):
    """The storage with one running trial of another worker, and this process's leases."""
    storage = open_storage(tmp_path, None, "key").storage
    own = Leases(storage)
    study = optuna.create_study(storage=storage)
    trial_id = study.ask()._trial_id
    if worker:
        storage.set_trial_system_attr(trial_id, WORKER, {**own._own, **worker})
    return storage, own, trial_id


def test_a_trial_whose_worker_was_killed_before_it_could_write_is_abandoned(tmp_path):
    storage, own, trial_id = running(tmp_path)
    assert own.abandoned(storage.get_trial(trial_id))


def test_a_worker_of_the_same_number_that_started_at_another_time_is_another_one(tmp_path):
    storage, own, trial_id = running(tmp_path, pid=os.getppid(), started=1.0)
    assert own.abandoned(storage.get_trial(trial_id))


def test_a_living_worker_keeps_its_trial(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    try:
        storage, own, trial_id = running(
            tmp_path, pid=process.pid, started=leases.psutil.Process(process.pid).create_time()
        )
        assert not own.abandoned(storage.get_trial(trial_id))
        assert not own.holds(storage.get_trial(trial_id))
    finally:
        process.kill()
        process.join()
    assert own.abandoned(storage.get_trial(trial_id))


def test_a_worker_on_another_host_is_dead_once_its_beat_has_stood_still(tmp_path, monkeypatch):
    storage, own, trial_id = running(tmp_path, host="elsewhere", beat=0)
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])

    def look(seconds: float, beat: int) -> bool:
        now[0] += seconds
        worker = storage.get_trial(trial_id).system_attrs[WORKER]
        storage.set_trial_system_attr(trial_id, WORKER, {**worker, "beat": beat})
        return own.abandoned(storage.get_trial(trial_id))

    assert [look(s, beat) for s, beat in ((0, 0), (119, 0), (2, 1), (119, 1), (2, 1))] == [False] * 4 + [True]


def test_a_worker_that_works_on_shows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    storage, own, trial_id = running(tmp_path)
    own.take(trial_id)
    with own.beating(trial_id):
        while storage.get_trial(trial_id).system_attrs[WORKER]["beat"] < 2:
            time.sleep(0.01)
    assert own.holds(storage.get_trial(trial_id))


def test_who_was_taken_for_dead_leaves_the_trial_to_who_took_it_over(tmp_path):
    study = Study("shared", ("fid",), 1, SPACE.anchors())
    shared = open_storage(tmp_path, None, "key")

    def taken_over(trial):
        SPACE.suggest(trial)
        own = shared.storage.get_trial(trial._trial_id).system_attrs[WORKER]
        shared.storage.set_trial_system_attr(trial._trial_id, WORKER, {**own, "started": 1.0})
        return (1.0,)

    asked = []

    def evaluate(trial):
        asked.append(trial.number)
        return taken_over(trial) if len(asked) == 1 else (2.0,)

    (trial,) = run_study(shared, study, 0, evaluate)
    assert (trial.values, asked) == ([2.0], [0, 0])


def test_a_database_that_does_not_answer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"switch_search.storage postgresql://nobody@localhost:1/none does not answer"):
        open_storage(tmp_path, "postgresql://nobody@localhost:1/none", "key")
    assert not (tmp_path / JOURNAL).is_file()
