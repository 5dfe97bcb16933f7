"""A sweep: the whole experiment once for every combination of some parameters' values, under one tracked run.

Members share finished work in data/.work, so what no parameter of the sweep touches is done once. What a member leaves
in data/ is overwritten by the next one; its report, records and tables are among its artifacts in MLflow.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product, starmap
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from yaml import YAMLError

from . import tracking
from .config import validate
from .errors import InputError
from .files import sha256_of_json
from .hooks import experiment_key, source_tags
from .lock import require_free
from .past_runs import SWEEP, PastRuns
from .reporting.comparison_page import COMPARISONS, claims_file, write_comparison
from .reporting.wording import sentence
from .stopping import run_process

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """name: the parameters that tell it from the others; overrides: all that the sweep sets, as `kedro run --params`
    takes it; parameters: the whole tree.
    """

    name: str
    overrides: str
    parameters: dict[str, Any]


def plan_sweep(grid: Sequence[str], env: str, settings: Mapping[str, Any]) -> list[Member]:
    """A member for every combination of values; grid: "key=value,value", read as `kedro run --params` reads values.

    settings: of Kedro's configuration loader. Raises InputError, naming the member, where its parameters are wrong.
    """
    values = dict(map(_key_and_values, grid))
    if len(values) < len(grid):
        raise InputError("a sweep takes each parameter once, with all its values: key=1,3,5")
    members = []
    for combination in product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        several = {key: value for key, value in chosen.items() if len(values[key]) > 1}
        name = ", ".join(starmap(_named, (several or chosen).items()))
        overrides = [f"{key}={value}" for key, value in chosen.items()]
        try:
            typed = OmegaConf.to_container(OmegaConf.from_dotlist(overrides))
            loader = OmegaConfigLoader("conf", env=env, runtime_params=typed, **settings)  # type: ignore[arg-type]
            parameters = loader["parameters"]
            validate(parameters)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        except YAMLError:
            raise InputError(
                f"{name}: no value in YAML; lists of several cannot be swept, commas part values"
            ) from None
        members.append(Member(name, ",".join(overrides), parameters))
    distinct = {sha256_of_json(member.parameters) for member in members}
    if len(distinct) < max(2, len(members)):
        raise InputError("a sweep needs two members or more, and no two the same: name a parameter with several values")
    return members


def run_sweep(project: Path, env: str, experiment: str, grid: Sequence[str], members: Sequence[Member]) -> Path:
    """Run the members, each a process of its own, and compare all; returns the page.

    The same members under the same code are the same sweep, which goes on where it was: what a member has done already
    it finds in its work folder, where its images are still the same. Raises InputError where members failed, after the
    others have run; where another run is at work; and where MLflow does not answer, since it alone keeps what every
    member made.
    """
    key = sha256_of_json([experiment_key(member.parameters, experiment) for member in members])[:16]
    title = "sweep " + ", ".join(_named(name, ",".join(values)) for name, values in map(_key_and_values, grid))
    require_free(project, experiment)
    with tracking.start(project, experiment, key, title, rejoin_ended=True) as parent:
        if not parent.run_id:
            raise InputError(f"a sweep keeps its results in MLflow, but {tracking.store_uri(project)} does not answer")
        parent.set_tags({SWEEP: str(len(members)), "experiment_key": key, **source_tags(project, env)})
        parent.log_params({name: ",".join(values) for name, values in map(_key_and_values, grid)})
        past = PastRuns(project)
        failed = []
        for number, member in enumerate(members, start=1):
            logger.info("member %d of %d: %s", number, len(members), member.name)
            if not _succeeds(parent, member, env):
                failed.append(member.name)
        results = past.with_records(parent.run_id)
        page = write_comparison(project / COMPARISONS, results) if len(results) > 1 else None
        if page:
            for path in filter(Path.is_file, (page, claims_file(page))):
                parent.log_file(path)
        if failed:
            others = f"the others are compared in {page}" if page else "too few others are left to compare"
            raise InputError(
                f"{len(failed)} of {len(members)} members failed: {'; '.join(failed)}. {sentence(others)}; "
                "the same command tries again"
            )
        if page is None:
            raise InputError(
                "MLflow did not take the results of the members: once it answers, the same command does it"
            )
    return page


def _succeeds(parent: tracking.Run, member: Member, env: str) -> bool:
    """Whether the run of a member, which is tracked below `parent`, ends well."""
    command = [sys.executable, "-m", "kedro", "run", "--env", env, "--params", member.overrides]
    try:
        with parent.child(member.name) as run:
            tracked = {"MLFLOW_RUN_ID": run.run_id} if run.run_id else {}
            if status := run_process(command, {**os.environ, **tracked}):
                raise subprocess.CalledProcessError(status, command)
    except subprocess.CalledProcessError:
        return False
    return True


def _named(key: str, value: str) -> str:
    """With what differs at its head, since MLflow's table shows little more: depth=3 (backbones.shallow)."""
    section, _, last = key.rpartition(".")
    return f"{last}={value}" + (f" ({section})" if section else "")


def _key_and_values(item: str) -> tuple[str, list[str]]:
    key, equals, after = item.partition("=")
    values = [value.strip() for value in after.split(",")]
    if not key or not equals or not all(values):
        raise InputError(f"{item!r} is no parameter with values: write key=1,3,5")
    return key.strip(), values
