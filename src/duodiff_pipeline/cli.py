"""The project's command line: Kedro's, with a user's mistake turned into one line and the summary at the end."""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.project import run as kedro_run

from .errors import InputError


@click.group(name="duodiff_pipeline")
def cli() -> None:
    """Where to switch between diffusion networks, and what it buys."""


def _run(**options: Any) -> None:
    """Run the pipeline."""
    try:
        _require_environment(options["env"])
        outputs = kedro_run.callback(**options)  # type: ignore[misc]
    except KeyboardInterrupt:
        click.echo(
            "Stopped. The same command goes on from here; finished trainings, trials and blocks are kept.", err=True
        )
        sys.exit(130)
    except Exception as error:
        mistake = _input_error(error)
        if mistake is None:
            raise
        click.echo(f"Error: {mistake}", err=True)
        sys.exit(1)
    if "summary" in outputs:
        click.echo(outputs["summary"].load())


cli.add_command(click.Command("run", callback=_run, params=kedro_run.params, help=_run.__doc__))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("dvc_arguments", nargs=-1, type=click.UNPROCESSED)
def repro(dvc_arguments: tuple[str, ...]) -> None:
    """`dvc repro`, its stages tracked under one MLflow run."""
    from . import tracking

    experiment = OmegaConfigLoader("conf", base_env="base", default_run_env="base")["globals"]["experiment"]
    started = f"dvc {datetime.now():%Y-%m-%d %H:%M:%S}"
    run = tracking.start(Path.cwd(), experiment, started, started)  # the stages replace the key by their own
    environment = {**os.environ, **({"MLFLOW_RUN_ID": run.run_id} if run.run_id else {})}
    status = subprocess.run(["dvc", "repro", *dvc_arguments], env=environment, check=False).returncode
    run.end("FINISHED" if status == 0 else "FAILED")
    sys.exit(status)


def _require_environment(env: str | None) -> None:
    known = sorted(path.name for path in Path("conf").iterdir() if path.is_dir())
    if env is not None and env not in known:
        raise InputError(f"there is no environment {env!r}; conf/ holds {', '.join(known)}")


def _input_error(error: BaseException | None) -> InputError | None:
    """The user's mistake behind an error, however it was wrapped on its way up."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error
