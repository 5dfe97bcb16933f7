"""MLflow, and the only place that calls it. Tracking that fails never stops the work.

Runs are named by explicit ids, never through MLflow's stack of active runs. One parent run an experiment run; trainings
and best trials are its children.
"""

import functools
import getpass
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from .images.pixels import grid_hwc

logger = logging.getLogger(__name__)

PARAMS_PER_BATCH = 100  # MLflow's limits: entries a batch, characters a value
PARAM_CHARACTERS = 6000
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # else its page opens on traces of chats
# a server that does not answer is given up after seconds, not after MLflow's own many minutes
HTTP_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


class Store:
    """What a parent run and its children are kept in; where one of them fails, it is lost for all."""

    def __init__(self) -> None:
        self.client: Any = None
        self.lost = False

    def attempt(self, action: Callable[[], None]) -> None:
        """Turn the first failure into a warning, any other into nothing."""
        try:
            action()
        except Exception as error:  # the store may be anything, and so may its errors
            if not self.lost:
                reason = str(error).split("\n")[0]
                logger.warning("MLflow fails (%s): the work goes on, but is not tracked from here on", reason)
            self.lost = True


def _never_stops(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def guarded(self: "Run", *args: Any, **kwargs: Any) -> None:
        if self.run_id and not self.store.lost:
            self.store.attempt(lambda: method(self, *args, **kwargs))

    return guarded


class Run:
    """One MLflow run, ended by `with`; a run without id accepts everything and keeps nothing."""

    def __init__(self, store: Store | None = None, experiment_id: str = "", run_id: str = "") -> None:
        self.store = store or Store()
        self.experiment_id, self.run_id = experiment_id, run_id
        self.owned = True  # not begun by another process that also ends it

    @property
    def client(self) -> Any:
        """None where the run is not tracked."""
        return self.store.client if self.run_id else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end("FINISHED" if kind is None else "FAILED")

    def child(self, name: str) -> "Run":
        """The run of this name below this one: the one that is there, running again, or a new one."""
        child = Run(self.store, self.experiment_id)
        self._begin(child, name)
        return child

    @_never_stops
    def _begin(self, child: "Run", name: str) -> None:
        children = self.client.search_runs([self.experiment_id], f"tags.`mlflow.parentRunId` = '{self.run_id}'")
        there = [run.info.run_id for run in children if run.info.run_name == name]
        if there:
            self.client.update_run(there[0], status="RUNNING")
            child.run_id = there[0]
        else:
            tags = {"mlflow.parentRunId": self.run_id, "mlflow.user": _user()}
            child.run_id = self.client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id

    @_never_stops
    def log_params(self, params: Mapping[str, Any]) -> None:
        """A nested mapping, flattened with dots. MLflow takes the same values again, but no other ones."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in flatten(params).items()]
        for start in range(0, len(entries), PARAMS_PER_BATCH):
            self.client.log_batch(self.run_id, params=entries[start : start + PARAMS_PER_BATCH])

    @_never_stops
    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(
            self.run_id, metrics=[Metric(key, float(value), now, step) for key, value in values.items()]
        )

    @_never_stops
    def log_images(self, name: str, images_u8: Tensor, step: int) -> None:
        """A grid of (N, C, H, W) uint8 images."""
        self.client.log_image(self.run_id, grid_hwc(images_u8).numpy(), key=name, step=step)

    @_never_stops
    def log_folder(self, folder: Path) -> None:
        self.client.log_artifacts(self.run_id, str(folder))

    @_never_stops
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """folder: below the run's artifacts."""
        self.client.log_artifact(self.run_id, str(path), folder)

    @_never_stops
    def set_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    def end(self, status: str = "FINISHED") -> None:
        """A run that came by environment is ended by whoever began it.

        Tried also where the store is lost: it may have failed in something else, and no run is to stay open.
        """
        if self.run_id and self.owned:
            self.store.attempt(lambda: self.client.set_terminated(self.run_id, status))


_current = Run()


def current() -> Run:
    """The parent run of this process."""
    return _current


def start(folder: Path, experiment: str, experiment_key: str, name: str, rejoin_ended: bool = False) -> Run:
    """Begin the parent run, or rejoin the one that MLFLOW_RUN_ID names or that a killed process of the same key left.

    folder: holds mlflow.db and mlartifacts unless MLFLOW_TRACKING_URI says otherwise; rejoin_ended: the newest run of
    the key is rejoined even where it ended.
    """
    global _current
    _current = run = Run()
    run.store.attempt(lambda: _open(run, folder, experiment, experiment_key, name, rejoin_ended))
    return run


def store_uri(folder: Path) -> str:
    """Where the runs of the project in `folder` are kept."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def _open(run: Run, folder: Path, experiment: str, experiment_key: str, name: str, rejoin_ended: bool) -> None:
    uri = store_uri(folder)
    client = run.store.client = open_client(uri)
    if given := os.environ.get("MLFLOW_RUN_ID"):
        run.experiment_id = client.get_run(given).info.experiment_id
        run.run_id, run.owned = given, False
        return
    if (found := client.get_experiment_by_name(experiment)) is not None:
        run.experiment_id = found.experiment_id
    else:
        location = (folder / "mlartifacts" / experiment).as_uri() if uri.startswith("sqlite") else None
        run.experiment_id = client.create_experiment(experiment, location, EXPERIMENT_TAGS)
    process = {"host": socket.gethostname(), "pid": str(os.getpid())}
    run_id = _left_open(client, run.experiment_id, experiment_key)
    if run_id is None and rejoin_ended:
        run_id = _ended(client, run.experiment_id, experiment_key)
    if run_id is None:
        tags = {"experiment_key": experiment_key, "mlflow.user": _user(), **process}
        run.run_id = client.create_run(run.experiment_id, tags=tags, run_name=name).info.run_id
    else:
        client.update_run(run_id, status="RUNNING")
        run.run_id = run_id
        run.set_tags(process)


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


def _left_open(client: Any, experiment_id: str, experiment_key: str) -> str | None:
    """The run of the same experiment key whose process on this host was killed."""
    condition = f"tags.experiment_key = '{experiment_key}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], condition):
        pid = run.data.tags.get("pid", "")
        if run.data.tags.get("host") == socket.gethostname() and pid.isdigit() and not _lives(int(pid)):
            return run.info.run_id
    return None


def _ended(client: Any, experiment_id: str, experiment_key: str) -> str | None:
    """The newest run of the same experiment key that is not running."""
    condition = f"tags.experiment_key = '{experiment_key}' and attributes.status != 'RUNNING'"
    found = client.search_runs([experiment_id], condition, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0].info.run_id if found else None


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
