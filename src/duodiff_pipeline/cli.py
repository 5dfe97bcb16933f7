"""The project's command line: Kedro's, with a user's mistake turned into one line and the summary at the end."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError
from kedro.io import DatasetError
from kedro.utils import find_kedro_project
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from . import tracking
from .errors import InputError
from .files import REFUSALS

KEDRO_BEFORE_NODES = ("kedro.config", "kedro.framework", "kedro.pipeline", "kedro.io.core", "kedro.utils")
KEDROS_REFUSALS = (ValueError, AttributeError, TypeError, DatasetError)


@click.group(name="duodiff_pipeline")
def cli() -> None:
    """Where to switch between diffusion networks, and what it buys."""


@contextmanager
def _mistakes_in_one_line() -> Iterator[None]:
    """Ends the process with the one line that `_mistake` makes of an error, and any other error as ever."""
    try:
        yield
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        click.echo(f"Error: {mistake}", err=True)
        sys.exit(1)


def _run(**options: Any) -> None:
    """Run the pipeline."""
    with _mistakes_in_one_line(), _stoppable():
        _require_configuration(options["env"] or os.environ.get("KEDRO_ENV"), options["conf_source"])
        if options["load_versions"]:
            raise InputError("--load-versions: nothing here is versioned by Kedro; earlier files are in DVC")
        outputs = kedro_run.callback(**options)  # type: ignore[misc]
    if "summary" in outputs:
        click.echo(outputs["summary"].load())


class _OneLineCommand(click.Command):
    """A command that says in one line what is wrong with its options, too."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **options)
        except click.ClickException as error:
            raise click.ClickException(" ".join(error.format_message().split())) from None
        except (YAMLError, LookupError, TypeError):  # all that Kedro says of a file that it cannot take options from
            raise click.ClickException("--config must name a YAML file with the options below the key run") from None


cli.add_command(_OneLineCommand("run", callback=_run, params=kedro_run.params, help=_run.__doc__))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("dvc_arguments", nargs=-1, type=click.UNPROCESSED)
def repro(dvc_arguments: tuple[str, ...]) -> None:
    """`dvc repro`, its stages tracked under one MLflow run."""
    from .hooks import experiment_key

    with _mistakes_in_one_line():
        _require_configuration("base", None)
        configuration = OmegaConfigLoader("conf", base_env="base", default_run_env="base")
        experiment = configuration["globals"]["experiment"]
        key = experiment_key(configuration["parameters"], experiment)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # dvc, and kedro in its stages
    with _stoppable():
        run = tracking.start(Path.cwd(), experiment, key, f"dvc {datetime.now():%Y-%m-%d %H:%M}")
        environment = {**os.environ, "PATH": path, **({"MLFLOW_RUN_ID": run.run_id} if run.run_id else {})}
        status = subprocess.run(["dvc", "repro", *dvc_arguments], env=environment, check=False).returncode
        run.end("FINISHED" if status == 0 else "FAILED")
    sys.exit(status)


ENVIRONMENT = click.option("--env", "-e", envvar="KEDRO_ENV", default="local", help="Configuration of the experiment.")


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@ENVIRONMENT
def compare(runs: tuple[str, ...], env: str) -> None:
    """Put tracked runs side by side in one HTML page; differences are to the first.

    RUN: an id, the beginning of one, a name, latest or latest~1 (of the experiment of --env), or a sweep, which stands
    for its members.
    """
    from .past_runs import PastRuns
    from .reporting.comparison_page import COMPARISONS, write_comparison

    with _mistakes_in_one_line():
        experiment = _experiment(env)
        page = write_comparison(Path.cwd() / COMPARISONS, PastRuns(Path.cwd()).find(runs, experiment))
    click.echo(f"comparison: {page}")


@cli.command()
@click.argument("grid", nargs=-1, required=True, metavar="KEY=VALUE,VALUE...")
@ENVIRONMENT
def sweep(grid: tuple[str, ...], env: str) -> None:
    """Run the experiment for every combination of parameters' values, tracked under one run, and compare."""
    from .settings import CONFIG_LOADER_ARGS
    from .sweep import plan_sweep, run_sweep

    with _mistakes_in_one_line(), _stoppable():
        experiment = _experiment(env)
        members = plan_sweep(grid, env, CONFIG_LOADER_ARGS)
        page = run_sweep(Path.cwd(), env, experiment, grid, members)
    click.echo(f"comparison of the {len(members)} members: {page}")


def _experiment(env: str) -> str:
    """The name of the environment's experiment."""
    from .config import validate_globals

    _require_configuration(env, None)
    loader = OmegaConfigLoader("conf", env=env, base_env="base", default_run_env="base")
    return validate_globals(loader["globals"]).experiment


class _Stopped(BaseException):
    """A signal asked to stop. No KeyboardInterrupt, which Lightning answers by leaving without a word."""


@contextmanager
def _stoppable() -> Iterator[None]:
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


def _require_configuration(env: str | None, source: str | None) -> None:
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
