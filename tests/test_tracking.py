"""MLflow from outside: what is in its store after kills and rejoins, and what happens when it fails."""

import json
import logging
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run as StoredRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy import event

from duodiff_pipeline import tracking

IMAGES = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _this_process_tracks_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    for name in tracking.HTTP_PATIENCE:
        monkeypatch.setenv(name, "")  # so that what `start` puts there is undone afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(tracking, "_current", tracking.Run())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, which costs seconds to make. Tests share it and differ in the experiment's name."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        assert tracking.start(folder, "made", "key", "name").run_id
    return folder


@pytest.fixture
def own(project: Path, tmp_path: Path) -> Path:
    """A folder whose store a test may break."""
    shutil.copy(project / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING]


@pytest.fixture
def two_warnings(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Tracking warns where the store fails first and where the run ends; MLflow itself has nothing to say beside it."""
    yield
    first, last = warnings_in(caplog)
    assert first.startswith("MLflow fails (")
    assert first.endswith("the work goes on, its records are kept for the end")
    assert re.match(r"MLflow misses \d+ records? \(", last)
    assert last.endswith("once it answers, the same command records them from finished work")
    assert capfd.readouterr() == ("", "")


def missing(folder: Path) -> list[dict[str, Any]]:
    """The list of what no store would take."""
    return [
        json.loads(line) for path in (folder / "mlflow_missing").iterdir() for line in path.read_text().splitlines()
    ]


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def stored(folder: Path, experiment: str) -> list[StoredRun]:
    client = client_of(folder)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def status(run: tracking.Run) -> str:
    return run.client.get_run(run.run_id).info.status


def use_everything(run: tracking.Run, folder: Path) -> None:
    """All that the pipelines do with a run, below it too."""
    run.set_tags({"tag": "value"})
    run.log_params({"a": {"b": 1}})
    run.log_metrics({"loss": 0.5}, 3)
    run.log_folder(folder)
    for name in ("train deep", "train shallow"):
        with run.child(name) as child:
            child.log_params({"a": 1})
            child.log_metrics({"loss": 0.5}, 3)
            child.log_images("samples", IMAGES, 3)
    run.end()


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.html").write_text("report")
    return folder


# one run and its children


def test_everything_logged_is_in_the_store(project: Path, artifacts: Path) -> None:
    run = tracking.start(project, "everything", "key", "the name")
    assert tracking.current() is run
    run.log_params({"many": {f"parameter_{i}": i for i in range(230)}, "long": "x" * 7000})
    use_everything(run, artifacts)
    parent = run.client.get_run(run.run_id)
    assert (parent.info.run_name, parent.info.status) == ("the name", "FINISHED")
    assert parent.data.params["many.parameter_229"] == "229"
    assert parent.data.params["a.b"] == "1"
    assert parent.data.params["long"] == "x" * 6000
    assert parent.data.metrics == {"loss": 0.5}
    own_tags = {"experiment_key": "key", "host": socket.gethostname(), "pid": str(os.getpid()), "tag": "value"}
    assert own_tags.items() <= parent.data.tags.items()
    assert [artifact.path for artifact in run.client.list_artifacts(run.run_id)] == ["report.html"]
    children = [entry for entry in stored(project, "everything") if entry.info.run_id != run.run_id]
    assert sorted(child.info.run_name for child in children) == ["train deep", "train shallow"]
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == run.run_id
        assert run.client.list_artifacts(child.info.run_id, "images")


def test_a_child_that_is_there_runs_again_and_takes_the_same_again(project: Path) -> None:
    run = tracking.start(project, "again", "key", "name")
    name = "trial 3: 'quoted' \"twice\" `and` 100%"
    interrupted = run.child(name)  # as a kill leaves it
    interrupted.log_params({"steps": 12})
    interrupted.log_metrics({"loss": 0.5}, 6)
    assert status(interrupted) == "RUNNING"
    for loss in (0.5, 0.25):
        with run.child(name) as child:
            assert child.run_id == interrupted.run_id
            assert status(child) == "RUNNING"
            child.log_params({"steps": 12})
            child.log_metrics({"loss": loss}, 6)
            child.log_metrics({"loss": loss}, 6)
        assert status(child) == "FINISHED"
    assert len(stored(project, "again")) == 2
    assert not run.store.lost


def test_children_of_another_parent_or_name_are_others(project: Path) -> None:
    first = tracking.start(project, "others", "first", "name")
    second = tracking.start(project, "others", "second", "name")
    children = [first.child("train deep"), second.child("train deep"), first.child("train"), first.child("Train deep")]
    assert len({child.run_id for child in children}) == 4


@pytest.mark.parametrize(
    ("error", "ended"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_an_exception_passes_through_a_child_and_ends_it(project: Path, error: type[BaseException], ended: str) -> None:
    run = tracking.start(project, "exceptions", "key", "name")
    with pytest.raises(error), run.child("train deep") as child:
        raise error
    assert status(child) == ended
    with run.child("train deep") as rejoined:
        assert status(rejoined) == "RUNNING"
    assert rejoined.run_id == child.run_id
    assert status(rejoined) == "FINISHED"


# rejoining a parent


def test_the_run_of_a_killed_process_is_rejoined_and_is_this_process_s_then(project: Path, dead_pid: int) -> None:
    killed = tracking.start(project, "killed", "key", "name")
    killed.log_params({"a": 1})
    left = killed.child("train deep")
    killed.set_tags({"pid": str(dead_pid)})
    rejoined = tracking.start(project, "killed", "key", "another name")
    assert rejoined.run_id == killed.run_id
    assert rejoined.client.get_run(rejoined.run_id).data.tags["pid"] == str(os.getpid())
    rejoined.log_params({"a": 1})
    with rejoined.child("train deep") as child:
        assert child.run_id == left.run_id
    rejoined.end()
    assert {run.info.status for run in stored(project, "killed")} == {"FINISHED"}
    assert len(stored(project, "killed")) == 2


@pytest.mark.parametrize("other", ["lives", "another host", "ended", "another key", "says nothing of its process"])
def test_no_other_run_is_rejoined(project: Path, dead_pid: int, other: str) -> None:
    experiment = f"not rejoined: {other}"
    run = tracking.start(project, experiment, "key", "name")
    run.set_tags({"pid": str(dead_pid)})
    if other == "lives":
        run.set_tags({"pid": str(os.getppid())})
    elif other == "another host":
        run.set_tags({"host": "elsewhere"})
    elif other == "ended":
        run.end("FAILED")
    elif other == "says nothing of its process":
        run.client.delete_tag(run.run_id, "pid")
    second = tracking.start(project, experiment, "other" if other == "another key" else "key", "name")
    assert second.run_id != run.run_id
    assert not second.store.lost


def test_the_dead_one_is_found_beside_the_living(project: Path, dead_pid: int) -> None:
    runs = [tracking.start(project, "beside", "key", "name") for _ in range(3)]
    runs[1].set_tags({"pid": str(dead_pid)})
    assert tracking.start(project, "beside", "key", "name").run_id == runs[1].run_id


def test_a_process_of_another_user_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert tracking._lives(1)


def test_a_run_by_environment_is_joined_whatever_it_is_and_not_ended(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tracking.start(project, "theirs", "key", "name")
    theirs.set_tags({"host": "elsewhere", "pid": "1"})
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.run_id)
    run = tracking.start(project, "another experiment", "another key", "another name")
    assert run.run_id == theirs.run_id
    with run.child("train deep") as child:
        pass
    run.end()
    assert status(run) == "RUNNING"
    assert run.client.get_run(run.run_id).data.tags["pid"] == "1"
    assert status(child) == "FINISHED"
    assert {entry.info.run_id for entry in stored(project, "theirs")} == {run.run_id, child.run_id}
    theirs.end()
    assert status(run) == "FINISHED"


# a store that fails


def test_a_run_without_a_store_keeps_nothing_and_says_nothing(
    artifacts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tracking.Run()
    use_everything(run, artifacts)
    assert (run.client, run.run_id, caplog.records) == (None, "", [])
    with pytest.raises(KeyboardInterrupt), run.child("train deep"):
        raise KeyboardInterrupt


METHODS = ["search_runs", "create_run", "log_batch", "log_image", "log_artifacts", "set_tag", "set_terminated"]


ONLY = {
    "log_batch": {"log_params", "log_metrics"},
    "log_image": {"log_images"},
    "log_artifacts": {"log_folder"},
    "set_tag": {"set_tags", "log_images"},  # the first image tags its run
    "set_terminated": {"_terminate"},
}


def fail(*_: Any, **__: Any) -> None:
    raise OSError("the store is gone\nand its stack is long")


@pytest.mark.usefixtures("two_warnings")
@pytest.mark.parametrize("broken", [METHODS, *([method] for method in METHODS)], ids=lambda names: "+".join(names))
def test_what_a_method_that_raises_should_have_kept_is_listed_and_nothing_else(
    project: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch, broken: list[str]
) -> None:
    run = tracking.start(project, f"broken {'+'.join(broken)}", f"key {len(broken)} {broken[0]}", "key")
    for method in broken:
        monkeypatch.setattr(run.client, method, fail)
    use_everything(run, artifacts)
    listed = [json.loads(line) for line in run.store.missing.read_text().splitlines()]
    called = {entry["call"] for entry in listed}
    if "+".join(broken) in ONLY:
        assert called == ONLY[broken[0]]
        statuses = {entry.info.status for entry in stored(project, f"broken {broken[0]}")}
        assert statuses == {"RUNNING" if broken == ["set_terminated"] else "FINISHED"}
    else:  # no children without these
        assert {"_begin", "log_metrics", "_terminate"} <= called


@pytest.mark.parametrize(("gone", "records"), [("from the start", 10), ("on the way", 9)])
def test_a_store_that_answers_again_at_the_end_has_everything(
    own: Path,
    artifacts: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gone: str,
    records: int,
) -> None:
    experiment = f"back {gone}"
    if gone == "from the start":
        with monkeypatch.context() as patch:
            patch.setattr(tracking, "open_client", fail)
            run = tracking.start(own, experiment, "key", "the name")
        assert run.client is None
    else:
        run = tracking.start(own, experiment, "key", "the name")
        monkeypatch.setattr(run.client, "log_batch", fail)
    run.log_params({"a": 1})
    run.log_folder(artifacts)
    with run.child("train deep") as child:
        for step in (6, 12):
            child.log_metrics({"loss": 1 / step}, step)
            child.log_images("samples", IMAGES, step)
        monkeypatch.undo()
    run.end()
    parent, below = sorted(stored(own, experiment), key=lambda entry: "mlflow.parentRunId" in entry.data.tags)
    assert (parent.info.run_name, parent.info.status, parent.data.params) == ("the name", "FINISHED", {"a": "1"})
    assert (below.info.run_name, below.info.status) == ("train deep", "FINISHED")
    history = run.client.get_metric_history(below.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(6, 1 / 6), (12, 1 / 12)]
    assert len(run.client.list_artifacts(below.info.run_id, "images")) == 4  # an image and its thumbnail a step
    assert warnings_in(caplog)[1:] == [f"MLflow answers again: it has the {records} records kept back"]
    assert not (own / "mlflow_missing").exists()


def test_the_same_command_later_clears_the_list(project: Path, artifacts: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "open_client", fail)
        lost = tracking.start(project, "later", "key", "name")
        use_everything(lost, artifacts)
    listed = [json.loads(line) for line in lost.store.missing.read_text().splitlines()]
    assert [entry["call"] for entry in listed][:2] == ["_open", "set_tags"]
    assert {"run": "train deep", "call": "log_metrics", "arguments": [{"loss": 0.5}, 3]} in listed
    assert {"run": "train deep", "call": "log_images", "arguments": ["samples", "images [4, 1, 8, 8]", 3]} in listed
    use_everything(tracking.start(project, "later", "key", "name"), artifacts)
    assert {entry.info.status for entry in stored(project, "later")} == {"FINISHED"}
    assert not lost.store.missing.exists()


@pytest.mark.usefixtures("two_warnings")
def test_changed_parameters_are_refused_with_two_warnings(project: Path) -> None:
    run = tracking.start(project, "changed", "key", "name")
    for value in (1, 1, 2, 3):
        run.log_params({"a": value})
    run.end()
    assert run.client.get_run(run.run_id).data.params == {"a": "1"}
    assert status(run) == "FINISHED"


@pytest.mark.usefixtures("two_warnings")
def test_an_unknown_run_by_environment_gives_two_warnings(
    project: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "ab" * 16)
    run = tracking.start(project, "unknown", "key", "name")
    assert (run.client, run.run_id) == (None, "")
    use_everything(run, artifacts)


def untracked_within(seconds: float, folder: Path, artifacts: Path) -> None:
    began = time.monotonic()
    run = tracking.start(folder, "fails", "key", "name")
    assert (run.client, run.run_id) == (None, "")
    assert tracking.current() is run
    use_everything(run, artifacts)
    assert time.monotonic() - began < seconds


@pytest.mark.usefixtures("two_warnings")
def test_a_garbage_database(tmp_path: Path, artifacts: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"garbage " * 2000)
    untracked_within(10, tmp_path, artifacts)
    assert (tmp_path / "mlflow.db").read_bytes() == b"garbage " * 2000


@pytest.mark.usefixtures("two_warnings")
def test_a_folder_that_cannot_be(tmp_path: Path, artifacts: Path) -> None:
    (tmp_path / "file").write_text("")
    untracked_within(10, tmp_path / "file" / "below", artifacts)


@pytest.mark.usefixtures("two_warnings")
def test_a_readonly_database(own: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write to any file, so the mode of the file would not do
    monkeypatch.chdir(own)  # where MLflow makes a folder of this name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{own / 'mlflow.db'}?mode=ro&uri=true")
    untracked_within(10, own, artifacts)


@pytest.mark.usefixtures("two_warnings")
def test_a_database_locked_from_the_start(own: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own / 'mlflow.db'}?timeout=0.1")  # else sqlite's 5 s
    with closing(sqlite3.connect(own / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        untracked_within(10, own, artifacts)


@pytest.mark.usefixtures("two_warnings")
def test_a_database_locked_on_the_way(own: Path, artifacts: Path) -> None:
    run = tracking.start(own, "locked", "key", "name")
    engine = SqlAlchemyStore._engine_map[f"sqlite:///{own / 'mlflow.db'}"]

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def hurry(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 20"), parameters  # MLflow's 20 s

    with closing(sqlite3.connect(own / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        use_everything(run, artifacts)
    assert run.store.lost


@pytest.mark.usefixtures("two_warnings")
def test_a_database_destroyed_on_the_way(own: Path, artifacts: Path) -> None:
    run = tracking.start(own, "destroyed", "key", "name")
    (own / "mlflow.db").write_bytes(b"garbage " * 2000)
    use_everything(run, artifacts)
    assert run.store.lost


@pytest.mark.usefixtures("two_warnings")
def test_artifacts_that_cannot_be_written(own: Path, artifacts: Path) -> None:
    (own / "mlartifacts").write_text("a file where a folder should be")
    run = tracking.start(own, "artifacts", "key", "name")
    with run.child("train deep") as child:
        child.log_images("samples", IMAGES, 3)
    use_everything(run, artifacts)
    assert {entry.info.status for entry in stored(own, "artifacts")} == {"FINISHED"}
    assert {entry["call"] for entry in missing(own)} == {"log_images", "log_folder"}


@pytest.mark.usefixtures("two_warnings")
def test_a_server_that_is_not_there(tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    untracked_within(5, tmp_path, artifacts)
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.usefixtures("two_warnings")
def test_a_server_that_takes_calls_and_never_answers(
    tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own patience counts
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        untracked_within(5, tmp_path, artifacts)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_flatten() -> None:
    assert tracking.flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
