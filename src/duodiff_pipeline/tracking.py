"""MLflow, and the only place that calls it. Tracking that fails never stops the work.

Runs are named by explicit ids, never through MLflow's stack of active runs. One parent run an experiment run; trainings
and best trials are its children.
"""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .images.pixels import grid_hwc

logger = logging.getLogger(__name__)

PARAMS_PER_BATCH = 100  # MLflow's limits: entries a batch, characters a value
PARAM_CHARACTERS = 6000


def _never_stops(method: Callable[..., None]) -> Callable[..., None]:
    """Turn any failure of the tracking store into one warning; from then on the run is not tracked."""

    @functools.wraps(method)
    def guarded(self: "Run", *args: Any, **kwargs: Any) -> None:
        if self.lost:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # the store may be anything, and so may its errors
            self.lost = True
            logger.warning(
                "MLflow no longer answers (%s): the work goes on, this run is not tracked further",
                str(error).split("\n")[0],
            )

    return guarded


class Run:
    """One MLflow run; the untracked run (no client) accepts everything and keeps nothing."""

    def __init__(self, client: Any = None, experiment_id: str = "", run_id: str = "", owned: bool = True) -> None:
        self.client, self.experiment_id, self.run_id, self.owned = client, experiment_id, run_id, owned
        self.lost = client is None

    def child(self, name: str) -> "Run":
        """A run below this one."""
        try:
            if self.lost:
                return Run()
            tags = {"mlflow.parentRunId": self.run_id}
            created = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
            return Run(self.client, self.experiment_id, created.info.run_id)
        except Exception as error:  # as in _never_stops
            logger.warning(
                "MLflow refuses a run for %s (%s): the work goes on untracked", name, str(error).split("\n")[0]
            )
            return Run()

    @_never_stops
    def log_params(self, params: Mapping[str, Any]) -> None:
        """A nested mapping, flattened with dots."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in flatten(params).items()]
        for start in range(0, len(entries), PARAMS_PER_BATCH):
            self.client.log_batch(self.run_id, params=entries[start : start + PARAMS_PER_BATCH])

    @_never_stops
    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        import time

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
    def set_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    @_never_stops
    def end(self, status: str = "FINISHED") -> None:
        """A run that came by environment is ended by whoever began it."""
        if self.owned:
            self.client.set_terminated(self.run_id, status)


_current = Run()


def current() -> Run:
    """The parent run of this process."""
    return _current


def start(folder: Path, experiment: str, experiment_key: str, name: str) -> Run:
    """Begin the parent run, or rejoin the one that MLFLOW_RUN_ID names or that a killed run of the same key left open.

    folder: holds mlflow.db and mlartifacts unless MLFLOW_TRACKING_URI says otherwise.
    """
    global _current
    _current = Run()
    try:
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        for talkative in ("alembic", "mlflow"):
            logging.getLogger(talkative).setLevel(logging.WARNING)
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            experiment_id = found.experiment_id
        else:
            location = (folder / "mlartifacts" / experiment).as_uri() if uri.startswith("sqlite") else None
            experiment_id = client.create_experiment(experiment, location)
        given = os.environ.get("MLFLOW_RUN_ID")
        run_id = given or _left_open(client, experiment_id, experiment_key)
        if run_id is None:
            run_id = client.create_run(
                experiment_id, tags={"experiment_key": experiment_key}, run_name=name
            ).info.run_id
        _current = Run(client, experiment_id, run_id, owned=given is None)
    except Exception as error:  # as in _never_stops
        logger.warning("MLflow cannot be used (%s): the work goes on untracked", str(error).split("\n")[0])
    return _current


def _left_open(client: Any, experiment_id: str, experiment_key: str) -> str | None:
    """The run that a killed process of the same experiment key left running."""
    condition = f"tags.experiment_key = '{experiment_key}' and attributes.status = 'RUNNING'"
    found = client.search_runs([experiment_id], condition, max_results=1)
    return found[0].info.run_id if found else None


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
