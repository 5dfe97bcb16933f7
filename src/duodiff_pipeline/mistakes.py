"""A user's mistakes: which errors they are, and the one line that each ends in."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.utils import KedroCliError
from kedro.io import DatasetError
from kedro.utils import find_kedro_project
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from .errors import InputError
from .files import REFUSALS

KEDRO_BEFORE_NODES = ("kedro.config", "kedro.framework", "kedro.pipeline", "kedro.io.core", "kedro.utils")
KEDROS_REFUSALS = (ValueError, AttributeError, TypeError, DatasetError)


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Ends the process with the one line that `_mistake` makes of an error, and any other error as ever."""
    try:
        yield
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        click.echo(f"Error: {mistake}", err=True)
        sys.exit(1)


def require_configuration(env: str | None, source: str | None) -> None:
    """Raises InputError where there is no such environment, or a file cannot be read; names file, line and reason."""
    conf = Path(source) if source else (find_kedro_project(Path.cwd()) or Path.cwd()) / "conf"
    if not conf.is_dir():
        raise InputError(f"{conf} is no folder: the configuration must stand there")
    known = sorted(path.name for path in conf.iterdir() if path.is_dir())
    if env is not None and env not in known:
        raise InputError(f"there is no environment {env!r}; {conf.name}/ holds {', '.join(known)}")
    for path in sorted(path for name in ("base", env or "local") for path in (conf / name).rglob("*.yml")):
        try:
            content = OmegaConf.load(path)
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else "?"
            raise InputError(f"{path}, line {line}: {error.problem}") from None
        except (YAMLError, OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        if not isinstance(content, DictConfig):
            raise InputError(f"{path} must hold keys and values, not a list")


def _mistake(error: Exception) -> str | None:
    """The one line for the user, where the error is his mistake and not ours.

    Such are an InputError and what the system refuses, however they were wrapped on their way up, unreadable
    configuration, and what Kedro itself refuses before any node runs: an unknown pipeline, node or runner, say.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return _one_line(cause)
        if isinstance(cause, OSError) and cause.errno in REFUSALS and cause.filename:
            return f"{cause.filename}: {cause.strerror}"
        cause = cause.__cause__
    *_, raised_in = traceback.walk_tb(error.__traceback__)
    refused_by = raised_in[0].f_globals["__name__"]
    if isinstance(error, MissingConfigException | OmegaConfBaseException | KedroCliError) or (
        isinstance(error, KEDROS_REFUSALS) and refused_by.startswith(KEDRO_BEFORE_NODES)
    ):
        return _one_line(error)
    return None


def _one_line(error: BaseException) -> str:
    said = str(error).partition("\nHint:")[0] if isinstance(error, DatasetError) else str(error)
    return " ".join(said.split())
