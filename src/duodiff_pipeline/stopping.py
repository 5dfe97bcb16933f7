"""Stopping by Ctrl-C, SIGTERM or a closed terminal: with a word on how to go on, and all that was started, too."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import click

from . import tracking

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """A signal asked to stop. No KeyboardInterrupt, which Lightning answers by leaving without a word."""


@contextmanager
def stoppable() -> Iterator[None]:
    """A signal that asks to stop ends what is done here with a word on how to go on."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)  # the second one stops at once
        raise _Stopped(number)

    # what is ignored, as under nohup, stays ignored
    before = {number: signal.getsignal(number) for number in STOPS if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except _Stopped as stopped:
        tracking.current().end("KILLED")
        with suppress(OSError):  # the terminal may be gone
            click.echo(
                "Stopped. The same command goes on from here: finished trainings, trials and blocks are kept, "
                "and of a training what its last checkpoint holds.",
                err=True,
            )
        sys.exit(128 + stopped.args[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_process(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit status of a command. Where this process is stopped, so is the command with all that it started, once.

    It has a session of its own: Ctrl-C would reach it a second time otherwise, and twice means at once.
    """
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
