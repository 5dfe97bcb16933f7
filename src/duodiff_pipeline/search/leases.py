"""Which process a running trial belongs to, and whether that process still lives.

Optuna's own heartbeats know databases only, and judge by time alone. Here the process that runs a trial writes its host
and itself beside it. On the same host the system tells at once whether it lives; of one elsewhere a counter must move.
"""

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

WORKER = "worker"
BEAT_SECONDS = 20.0
PATIENCE_SECONDS = 120.0  # without a beat, after which a process elsewhere counts as dead


class Leases:
    """Of one process on the trials of a storage.

    Every call but `beating` and those on trials of this process alone must be made while no other process makes one.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        process = psutil.Process()
        self._own = {"host": _host(), "pid": process.pid, "started": process.create_time()}
        self._seen: dict[int, tuple[Any, float]] = {}

    def take(self, trial_id: int) -> None:
        """The trial is this process's from now on."""
        self._storage.set_trial_system_attr(trial_id, WORKER, {**self._own, "beat": 0})

    def holds(self, trial: FrozenTrial) -> bool:
        """Whether the trial still runs and is still this process's."""
        return not trial.state.is_finished() and _same_process(trial.system_attrs.get(WORKER, {}), self._own)

    def abandoned(self, trial: FrozenTrial) -> bool:
        """Whether nobody runs a trial that is said to run. This process asks between its own, so it runs none."""
        worker = trial.system_attrs.get(WORKER)
        if worker is None or _same_process(worker, self._own):  # killed before it could write, or stopped by an error
            return True
        if worker["host"] == self._own["host"]:
            return not _lives(worker)
        beat, since = self._seen.get(trial._trial_id, (None, 0.0))
        now = time.monotonic()  # of this machine alone: clocks of others may differ
        if beat != worker:
            self._seen[trial._trial_id] = (worker, now)
            return False
        return now - since > PATIENCE_SECONDS

    @contextmanager
    def beating(self, trial_id: int) -> Iterator[None]:
        """Within, other hosts see that this process lives."""
        ended = threading.Event()

        def beat() -> None:
            beats = 0
            while not ended.wait(BEAT_SECONDS):
                beats += 1
                try:
                    self._storage.set_trial_system_attr(trial_id, WORKER, {**self._own, "beat": beats})
                except Exception as error:  # whether the trial is still this process's is asked before it ends
                    logger.warning("no sign of life could be written: %s", error)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _same_process(worker: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(worker.get(key) == other[key] for key in ("host", "pid")) and _same_start(worker, other["started"])


def _lives(worker: Mapping[str, Any]) -> bool:
    try:
        process = psutil.Process(worker["pid"])
        return process.status() != psutil.STATUS_ZOMBIE and _same_start(worker, process.create_time())
    except psutil.NoSuchProcess:
        return False


def _same_start(worker: Mapping[str, Any], started: float) -> bool:
    """Numbers of processes come again. The system's clock, which starts are counted from, may be set right a little."""
    return abs(float(worker["started"]) - started) < 5


def _host() -> str:
    """Of its own for every start of every machine, and for containers on it, which number processes anew."""
    boot, numbers = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    started = boot.read_text().strip() if boot.is_file() else str(uuid.getnode())
    return " ".join([platform.node(), started, *([os.readlink(numbers)] if numbers.is_symlink() else [])])
