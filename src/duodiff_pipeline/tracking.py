"""MLflow, and the only place that calls it. Tracking that fails never stops the work.

Runs are named by explicit ids, never through MLflow's stack of active runs. One parent run an experiment run; trainings
and best trials are its children.
"""

import functools
import getpass
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from .errors import InputError
from .files import whole_file
from .images.pixels import grid_hwc

logger = logging.getLogger(__name__)

PARAMS_PER_BATCH = 100  # MLflow's limits: entries a batch, characters a value
PARAM_CHARACTERS = 6000
SETTLE_SECONDS = 20.0  # that calls may fail at the end of a run before the store is taken for gone
# a server that does not answer is given up after seconds, not after MLflow's own many minutes
HTTP_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


@dataclass(frozen=True)
class Call:
    """One call to the store: the method of a run with its arguments."""

    run: "Run"
    method: Callable[..., None]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def make(self) -> None:
        self.method(self.run, *self.arguments, **self.keywords)

    def __str__(self) -> str:
        """As JSON, images by their shape alone."""
        arguments = [*self.arguments, *self.keywords.values()]
        shown = [f"images {list(value.shape)}" if isinstance(value, Tensor) else value for value in arguments]
        return json.dumps({"run": self.run.name, "call": self.method.__name__, "arguments": shown}, default=str)


class Store:
    """What a parent run and its children are kept in.

    Where a call fails, it and all later ones are kept back, in order, for a second try at the end of the parent.
    missing: the file that lists what fails again.
    """

    def __init__(self, missing: Path | None = None) -> None:
        self.client: Any = None
        self.kept_back: list[Call] = []
        self.missing = missing

    @property
    def lost(self) -> bool:
        return bool(self.kept_back)

    def attempt(self, call: Call) -> None:
        """Turn the first failure into a warning, any other into nothing."""
        if self.lost:
            self.kept_back.append(call)
            return
        try:
            call.make()
        except Exception as error:  # the store may be anything, and so may its errors
            logger.warning("MLflow fails (%s): the work goes on, its records are kept for the end", reason(error))
            self.kept_back.append(call)

    def settle(self) -> None:
        """Make the calls kept back, and list those that fail again."""
        kept_back, still_missing = self.kept_back, list[Call]()
        first_reason, patience_seconds = "", SETTLE_SECONDS
        for call in kept_back:
            began = time.monotonic()
            try:
                if patience_seconds > 0:
                    call.make()
                    continue
            except Exception as error:
                first_reason = first_reason or reason(error)
            patience_seconds -= time.monotonic() - began
            still_missing.append(call)
        self.kept_back = still_missing
        if still_missing:
            self._list(still_missing, first_reason)
            return
        if kept_back:
            logger.warning("MLflow answers again: it has the %d records kept back", len(kept_back))
        if self.missing:
            self.missing.unlink(missing_ok=True)

    def _list(self, calls: Sequence[Call], why: str) -> None:
        again = "once it answers, the same command records them from finished work"
        try:
            assert self.missing is not None
            with whole_file(self.missing) as beside:
                beside.write_text("".join(f"{call}\n" for call in calls))
            logger.warning("MLflow misses %d records (%s), listed in %s; %s", len(calls), why, self.missing, again)
        except (OSError, InputError):
            logger.warning("MLflow misses %d records (%s); %s", len(calls), why, again)


def reason(error: Exception) -> str:
    return str(error).split("\n")[0]


def _never_stops(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def guarded(self: "Run", *args: Any, **kwargs: Any) -> None:
        if self.tracked:
            self.store.attempt(Call(self, method, args, kwargs))

    return guarded


class Run:
    """One MLflow run, ended by `with`; one that is not tracked accepts everything and keeps nothing.

    name: as MLflow shows it; parent: the run it hangs under.
    """

    def __init__(self, name: str = "", store: Store | None = None, parent: "Run | None" = None) -> None:
        self.name, self.parent = name, parent
        self.tracked = store is not None
        self.store = store or Store()
        self.experiment_id, self.run_id = "", ""  # known once the store has answered
        self.owned = True  # not begun by another process that also ends it

    @property
    def client(self) -> Any:
        """None where the run is not tracked."""
        return self.store.client if self.run_id else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        failed = kind is not None and issubclass(kind, Exception)
        self.end("FINISHED" if kind is None else "FAILED" if failed else "KILLED")

    def child(self, name: str) -> "Run":
        """The run of this name below this one: the one that is there, running again, or a new one."""
        child = Run(name, self.store if self.tracked else None, parent=self)
        child._begin()
        return child

    @_never_stops
    def _begin(self) -> None:
        assert self.parent is not None
        client, self.experiment_id = self.parent._answered(), self.parent.experiment_id
        children = client.search_runs([self.experiment_id], f"tags.`mlflow.parentRunId` = '{self.parent.run_id}'")
        there = [run.info.run_id for run in children if run.info.run_name == self.name]
        if there:
            client.update_run(there[0], status="RUNNING")
            self.run_id = there[0]
        else:
            tags = {"mlflow.parentRunId": self.parent.run_id, "mlflow.user": _user()}
            self.run_id = client.create_run(self.experiment_id, tags=tags, run_name=self.name).info.run_id

    def _answered(self) -> Any:
        """The client; raises ConnectionError where the store has not yet taken this run."""
        if not self.run_id:
            raise ConnectionError(f"the store has not taken {self.name!r}")
        return self.store.client

    @_never_stops
    def log_params(self, params: Mapping[str, Any]) -> None:
        """A nested mapping, flattened with dots. MLflow takes the same values again, but no other ones."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in flatten(params).items()]
        for start in range(0, len(entries), PARAMS_PER_BATCH):
            self._answered().log_batch(self.run_id, params=entries[start : start + PARAMS_PER_BATCH])

    @_never_stops
    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._answered().log_batch(
            self.run_id, metrics=[Metric(key, float(value), now, step) for key, value in values.items()]
        )

    @_never_stops
    def log_images(self, name: str, images_u8: Tensor, step: int) -> None:
        """A grid of (N, C, H, W) uint8 images."""
        self._answered().log_image(self.run_id, grid_hwc(images_u8).numpy(), key=name, step=step)

    @_never_stops
    def log_folder(self, folder: Path) -> None:
        self._answered().log_artifacts(self.run_id, str(folder))

    @_never_stops
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """folder: below the run's artifacts."""
        self._answered().log_artifact(self.run_id, str(path), folder)

    @_never_stops
    def set_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._answered().set_tag(self.run_id, key, value)

    def end(self, status: str = "FINISHED") -> None:
        """A run that came by environment is ended by whoever began it."""
        if self.owned:
            self._terminate(status)
        if self.tracked and self.parent is None:
            self.store.settle()

    @_never_stops
    def _terminate(self, status: str) -> None:
        self._answered().set_terminated(self.run_id, status)

    @_never_stops
    def _open(self, folder: Path, experiment: str, experiment_key: str, rejoin_ended: bool) -> None:
        uri = store_uri(folder)
        client = self.store.client = open_client(uri)
        if given := os.environ.get("MLFLOW_RUN_ID"):
            self.owned = False
            self.experiment_id = client.get_run(given).info.experiment_id
            self.run_id = given
            return
        if (found := client.get_experiment_by_name(experiment)) is not None:
            self.experiment_id = found.experiment_id
        else:
            location = (folder / "mlartifacts" / experiment).as_uri() if uri.startswith("sqlite") else None
            self.experiment_id = client.create_experiment(experiment, location)
        process = {"host": socket.gethostname(), "pid": str(os.getpid())}
        run_id = _left_open(client, self.experiment_id, experiment_key, rejoin_ended)
        if run_id is None:
            tags = {"experiment_key": experiment_key, "mlflow.user": _user(), **process}
            self.run_id = client.create_run(self.experiment_id, tags=tags, run_name=self.name).info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
            self.run_id = run_id
            self.set_tags(process)


_current = Run()


def current() -> Run:
    """The parent run of this process."""
    return _current


def start(folder: Path, experiment: str, experiment_key: str, name: str, rejoin_ended: bool = False) -> Run:
    """Begin the parent run, or rejoin the one that MLFLOW_RUN_ID names or that a killed process of the same key left.

    folder: holds mlflow.db and mlartifacts unless MLFLOW_TRACKING_URI says otherwise, and, in mlflow_missing, lists of
    what no store would take. rejoin_ended: the newest run of the key is rejoined even where it ended by itself.
    """
    global _current
    missing = folder / "mlflow_missing" / f"{experiment}_{experiment_key}.jsonl"
    _current = run = Run(name, Store(missing))
    run._open(folder, experiment, experiment_key, rejoin_ended)
    return run


def store_uri(folder: Path) -> str:
    """Where the runs of the project in `folder` are kept."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def open_client(uri: str) -> Any:
    """MLflow's client, made to fail within seconds and without words of its own."""
    for variable, value in HTTP_PATIENCE.items():
        os.environ.setdefault(variable, value)
    from mlflow.tracking import MlflowClient

    for talkative in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    if "://" in uri and not uri.startswith(("http", "file")):
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1  # it would try to open a broken database for 100 seconds
    return MlflowClient(uri)


def _left_open(client: Any, experiment_id: str, experiment_key: str, ended: bool) -> str | None:
    """The newest run of the same experiment key that was stopped, or whose process on this host was killed.

    ended: one that ended by itself is as good.
    """
    for run in client.search_runs([experiment_id], f"tags.experiment_key = '{experiment_key}'"):
        if "mlflow.parentRunId" in run.data.tags:  # a sweep's, which gives it to its process
            continue
        here = run.data.tags.get("host") == socket.gethostname()
        pid = run.data.tags.get("pid", "")
        killed = run.info.status == "RUNNING" and here and pid.isdigit() and not _lives(int(pid))
        if killed or run.info.status == "KILLED" or (ended and run.info.status != "RUNNING"):
            return run.info.run_id
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is another user's
        return True
    return True


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
