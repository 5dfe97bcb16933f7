"""The project's command line: Kedro's, with a user's mistake turned into one line and the summary at the end."""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.project import run as kedro_run
from yaml import YAMLError

from . import tracking
from .errors import InputError
from .lock import require_free
from .mistakes import mistakes_in_one_line, require_configuration
from .stopping import run_process, stoppable


@click.group(name="duodiff_pipeline")
def cli() -> None:
    """Where to switch between diffusion networks, and what it buys."""


def _run(**options: Any) -> None:
    """Run the pipeline."""
    with mistakes_in_one_line(), stoppable():
        require_configuration(options["env"] or os.environ.get("KEDRO_ENV"), options["conf_source"])
        if options["load_versions"]:
            raise InputError("--load-versions: nothing here is versioned by Kedro; earlier files are in DVC")
        outputs = kedro_run.callback(**options)  # type: ignore[misc]
    for name in sorted(outputs):
        if name.endswith("summary"):
            click.echo(outputs[name].load())


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

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # dvc, and kedro in its stages
    with mistakes_in_one_line(), stoppable():
        experiment = _experiment("base")
        require_free(Path.cwd(), experiment)
        parameters = OmegaConfigLoader("conf", base_env="base", default_run_env="base")["parameters"]
        name = f"dvc {datetime.now():%Y-%m-%d %H:%M}"
        run = tracking.start(Path.cwd(), experiment, experiment_key(parameters, experiment), name)
        tracked = {"MLFLOW_RUN_ID": run.run_id} if run.run_id else {}
        status = run_process(["dvc", "repro", *dvc_arguments], {**os.environ, "PATH": path, **tracked})
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

    with mistakes_in_one_line():
        experiment = _experiment(env)
        page = write_comparison(Path.cwd() / COMPARISONS, PastRuns(Path.cwd()).find(runs, experiment))
    _say_where("comparison", page)


@cli.command()
@click.argument("grid", nargs=-1, required=True, metavar="KEY=VALUE,VALUE...")
@ENVIRONMENT
def sweep(grid: tuple[str, ...], env: str) -> None:
    """Run the experiment for every combination of parameters' values, tracked under one run, and compare."""
    from .settings import CONFIG_LOADER_ARGS
    from .sweep import plan_sweep, run_sweep

    with mistakes_in_one_line(), stoppable():
        experiment = _experiment(env)
        members = plan_sweep(grid, env, CONFIG_LOADER_ARGS)
        page = run_sweep(Path.cwd(), env, experiment, grid, members)
    _say_where(f"comparison of the {len(members)} members", page)


@cli.command(cls=_OneLineCommand, params=[option for option in kedro_run.params if option.name == "params"])
@ENVIRONMENT
def join(env: str, params: dict[str, Any]) -> None:
    """Take part in the search of a run, here or on another machine, until all its trials have ended."""
    from .workers import join_search

    with mistakes_in_one_line(), stoppable():
        require_configuration(env, None)
        trials = join_search(Path.cwd(), env, params)
    click.echo(f"the search has ended, with {trials} trials")


@cli.command(cls=_OneLineCommand, params=[option for option in kedro_run.params if option.name == "params"])
@ENVIRONMENT
def plan(env: str, params: dict[str, Any]) -> None:
    """Say what a run comes to, without running it: networks, cost, time, memory, disk, and what is missing."""
    from .plan import plan_run

    with mistakes_in_one_line():
        require_configuration(env, None)
        click.echo(plan_run(Path.cwd(), env, params))


@cli.command()
@ENVIRONMENT
def dashboard(env: str) -> None:
    """Show the studies of the newest search in optuna-dashboard."""
    from .workers import show_dashboard

    with mistakes_in_one_line(), stoppable():
        show_dashboard(Path.cwd(), env, _experiment(env))


@cli.command()
@click.argument("backbone")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@ENVIRONMENT
def export(backbone: str, folder: Path, env: str) -> None:
    """Write a backbone of the experiment for other programs: FOLDER/BACKBONE.pth and the folder FOLDER/BACKBONE.

    The first is a bare state dict in U-ViT's official layout, the second in diffusers' style, config.json included.
    """
    from .networks.files import StoredNetwork
    from .networks.official import export_diffusers, export_official

    with mistakes_in_one_line():
        stored = StoredNetwork.load(Path("data", "06_models", _experiment(env), f"{backbone}.safetensors"))
        export_official(stored, folder / f"{backbone}.pth")
        export_diffusers(stored, folder / backbone)
    click.echo(f"{folder / f'{backbone}.pth'} and {folder / backbone}: {backbone}, sha256 {stored.sha256}")


def _say_where(what: str, page: Path) -> None:
    from .reporting.comparison_page import claims_file

    click.echo(f"{what}: {page}")
    if (claims := claims_file(page)).is_file():
        click.echo(f"claims over training seeds: {claims}")


def _experiment(env: str) -> str:
    """The name of the environment's experiment."""
    from .config import validate_globals

    require_configuration(env, None)
    loader = OmegaConfigLoader("conf", env=env, base_env="base", default_run_env="base")
    return validate_globals(loader["globals"]).experiment
