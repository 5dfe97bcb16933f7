"""One run of an experiment at a time: two would write the same files."""

from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InputError
from .files import writing


class ExperimentLock:
    """Of an experiment in a project's folder. The system frees the lock of a killed process."""

    def __init__(self, project: Path, experiment: str) -> None:
        self._path = project / "data" / ".work" / experiment / "lock"
        self._lock = FileLock(self._path)
        self._experiment = experiment

    def acquire(self) -> None:
        """Raises InputError where another process holds it."""
        try:
            with writing(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"another run of {self._experiment} is at work in this folder: wait until it ends, or stop it; "
                "this command then goes on where it was"
            ) from None

    def release(self) -> None:
        self._lock.release()


def require_free(project: Path, experiment: str) -> None:
    """For a command whose processes take the lock; raises what `acquire` raises."""
    lock = ExperimentLock(project, experiment)
    lock.acquire()
    lock.release()
