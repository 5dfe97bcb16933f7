"""Processes that work for this one: they begin with a function of their own, not with the command, and end with it."""

import io
import logging
import os
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing import connection, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Self

import torch
import torch.multiprocessing

from .errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failed:
    """What ended a worker, and when; told: by which error of a kind that says all in its message."""

    at: float
    told: InputError | OSError | None
    where: str = ""


def packed(value: Any) -> bytes:
    """For another process that shall have it as its own: tensors would be shared, which takes a file descriptor each
    and loses those of a process that has ended.
    """
    torch.save(value, file := io.BytesIO())
    return file.getvalue()


def unpacked(content: bytes, device: torch.device | str = "cpu") -> Any:
    """What this run packed, its tensors on the device, in the types and memory formats that they had."""
    return torch.load(io.BytesIO(content), map_location=device, weights_only=False)


class Workers:
    """`count` processes, each running function(rank, said, *arguments) with the threads that this process has.

    said: the worker's end of a pipe, through which it sends values here and receives them. What workers log is logged
    here: all of the first one, warnings of the others. They are new interpreters, so that a device which is in use here
    can be used there; arguments are pickled, and tensors among them shared. They end with the block, with this
    object, and with this process, however it ends; Ctrl-C does not reach them before.
    """

    def __init__(self, count: int, function: Callable[..., None], *arguments: Any) -> None:
        logger.info("%d processes begin, with a device each", count)
        spawn = torch.multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._pipes: list[Connection[Any, Any]] = []
        self._working: set[int] = set(range(count))
        try:
            with _ctrl_c_held_back():
                for rank in range(count):
                    ours, theirs = spawn.Pipe()
                    work = (function, rank, theirs, torch.get_num_threads(), arguments)
                    process = spawn.Process(target=_work, args=work, daemon=True)
                    self._pipes.append(ours)
                    self._processes.append(process)
                    process.start()
                    theirs.close()
        except BaseException:
            self.close()
            raise
        weakref.finalize(self, _end, self._processes, self._pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of them at once; what they write appears whole or not at all."""
        _end(self._processes, self._pipes)

    def send(self, rank: int, value: Any) -> None:
        """Raises as `receive` does where that worker has failed."""
        try:
            self._pipes[rank].send(value)
        except OSError as error:
            self._fail(self._read_to_the_end(rank), error)

    def receive(self) -> tuple[int, Any] | None:
        """What a worker sends next, with its rank; None once all have ended.

        Where one failed, raises its error, if an InputError or OSError, or RuntimeError; InputError if it was killed.
        """
        while self._working:
            ready = connection.wait([self._pipes[rank] for rank in self._working])
            for rank in [rank for rank in self._working if self._pipes[rank] in ready]:
                value = self._read(rank)
                if isinstance(value, _Failed):
                    self._fail(value)
                elif value is not None:
                    return rank, value
        return None

    def _read(self, rank: int) -> Any:
        """The next value; None for a message that is no value."""
        pipe = self._pipes[rank]
        try:
            value = pipe.recv()
        except (EOFError, ConnectionError):
            process = self._processes[rank]
            process.join()
            self._working.discard(rank)
            if process.exitcode == 0:
                return None
            what = signal.Signals(-process.exitcode).name if process.exitcode < 0 else f"status {process.exitcode}"
            who = f"process {rank + 1} of {len(self._processes)} ended by {what}"
            killed = InputError(f"{who}, out of memory perhaps: the same command goes on from here")
            return _Failed(0.0, killed)  # before any error by which the others notice it
        if isinstance(value, logging.LogRecord):
            if (log := logging.getLogger(value.name)).isEnabledFor(value.levelno):
                log.handle(value)
            return None
        return value

    def _read_to_the_end(self, rank: int) -> _Failed | None:
        """Why a worker failed, if it has."""
        while rank in self._working and self._pipes[rank].poll():
            if isinstance(value := self._read(rank), _Failed):
                return value
        return None

    def _fail(self, failed: _Failed | None, cause: BaseException | None = None) -> None:
        """Raises what failed first: others fail because of it."""
        more = [self._read_to_the_end(rank) for rank in sorted(self._working)]
        failures = [each for each in (failed, *more) if each is not None]
        if not failures:
            raise RuntimeError("a process has gone without a word") from cause
        first = min(failures, key=lambda each: each.at)
        raise first.told or RuntimeError(f"a process failed\n\n{first.where}") from cause


def _end(processes: list[Any], pipes: "list[Connection[Any, Any]]") -> None:
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.kill()
    for process in started:
        process.join()
    for pipe in pipes:
        pipe.close()


def _work(
    function: Callable[..., None], rank: int, said: "Connection[Any, Any]", threads: int, arguments: tuple[Any, ...]
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    handler = _SaidHandler(said)  # type: ignore[arg-type]
    handler.setLevel(logging.WARNING if rank else logging.INFO)
    logging.getLogger().handlers = [handler]  # for those of the command, which a new interpreter imports, too
    logging.getLogger().setLevel(logging.INFO)
    try:
        function(rank, said, *arguments)
    except Exception as error:
        told = error if isinstance(error, InputError | OSError) else None
        said.send(_Failed(time.time(), told, "".join(traceback.format_exception(error))))


class _SaidHandler(QueueHandler):
    """Sends records to the process that logs them."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send(record)  # type: ignore[attr-defined]


def _end_with_parent() -> None:
    """However the parent ends, kill -9 included."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Processes started within never hear Ctrl-C: it ends this one, and with it them. Here it is heard afterwards."""
    resource_tracker.ensure_running()  # which would lift the hold if it came later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
