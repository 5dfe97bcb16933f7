"""Stopping by Ctrl-C or SIGTERM: with a word on how to go on."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from . import tracking


class _Stopped(BaseException):
    """A signal asked to stop. No KeyboardInterrupt, which Lightning answers by leaving without a word."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is done here with a word on how to go on."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)  # the second one stops at once
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped as stopped:
        tracking.current().end("KILLED")
        click.echo(
            "Stopped. The same command goes on from here: finished trainings, trials and blocks are kept, "
            "and of a training what its last checkpoint holds.",
            err=True,
        )
        sys.exit(128 + stopped.args[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
