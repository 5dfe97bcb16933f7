"""Where studies are kept, so that processes can share them: a journal file, or a PostgreSQL database."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from ..errors import InputError
from ..files import writing

JOURNAL = "journal.log"


class Alone(Protocol):
    """Lets one process at a time do what must not be done twice: `with alone(): ...`."""

    def __call__(self) -> AbstractContextManager[object]: ...


@dataclass(frozen=True)
class SharedStorage:
    """Optuna's storage, and the lock that all processes take which share it. A killed process holds it no longer.

    key: tells the studies of one search from those of others.
    """

    storage: BaseStorage
    alone: Alone
    key: str


def open_storage(folder: Path, url: str | None, key: str) -> SharedStorage:
    """The journal in `folder`, or the database that the URL names.

    Raises InputError where the journal is damaged, or the database cannot be reached.
    """
    return _open_journal(folder / JOURNAL, key) if url is None else _open_database(url, key)


def _open_journal(path: Path, key: str) -> SharedStorage:
    journal = _Journal(path)
    try:
        return SharedStorage(JournalStorage(journal), lambda: journal.file_lock, key)  # reads what is there
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged: delete it; the search begins anew with what it has measured") from error


class _Journal(JournalFileBackend):
    """A journal file of whole lines.

    What a killed process, or one that ran out of space, had begun to write is taken back: Optuna would write on there.
    Its lock is the system's, which no killed process keeps; that of Optuna's own would make others wait for 30 seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file_lock = FileLock(path.with_suffix(".lock"))
        with writing(path):
            super().__init__(str(path), _SystemLock(self.file_lock))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with writing(self.path), self.file_lock:
            self._take_back_half_a_line()
            super().append_logs(logs)

    def _take_back_half_a_line(self) -> None:
        with self.path.open("rb") as journal:
            if size := journal.seek(0, os.SEEK_END):
                journal.seek(size - 1)
                if journal.read() != b"\n":
                    journal.seek(0)
                    os.truncate(self.path, journal.read().rfind(b"\n") + 1)


class _SystemLock(BaseJournalFileLock):
    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _open_database(url: str, key: str) -> SharedStorage:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    except ModuleNotFoundError as error:
        raise InputError(f"switch_search.storage needs {error.name}: pip install 'psycopg[binary]'") from None
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], signed=True)

    @contextmanager
    def alone() -> Iterator[None]:
        with engine.connect() as connection:  # a database gives the lock back when its holder's connection ends
            connection.execute(text("select pg_advisory_lock(:number)"), {"number": number})
            try:
                yield
            finally:
                connection.execute(text("select pg_advisory_unlock(:number)"), {"number": number})

    try:
        with alone():  # tables are made once
            return SharedStorage(RDBStorage(engine.url.render_as_string(hide_password=False)), alone, key)
    except SQLAlchemyError as error:
        said = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"switch_search.storage {url} does not answer: {said}") from None
