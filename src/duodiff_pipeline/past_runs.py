"""Past runs, read back from MLflow's store through `tracking`: found by what a user calls them, with what they left."""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from . import tracking
from .errors import InputError
from .metrics.records import MetricRecord
from .tables import load_table

# datasets that a comparison needs beside what people read
BLOCKS, EXITS, CURVES, SUGGESTED = "seed_blocks", "exit_table", "switch_curves", "loss_gap_switches"
TABLES = "tables"  # the folder of a run's artifacts that they are kept in
MEMBERS_OF = "mlflow.parentRunId"
SWEEP = "sweep"  # the tag of a run whose children are whole experiment runs
SHORT = 8  # characters of an id that are shown


@dataclass(frozen=True)
class PastRun:
    """What one experiment run left.

    params: flat; blocks: a row a plan and seed, with a column a metric; exits: the exit table; curves: FID of
    every switch; suggested: the switches that the loss gap suggests; losses: (step, loss) by the name of the training;
    recommendation: verdict and plan. Tables are None where the run did not keep them.
    """

    id: str
    name: str
    started: datetime
    params: Mapping[str, str]
    tags: Mapping[str, str]
    records: tuple[MetricRecord, ...]
    recommendation: Mapping[str, Any]
    blocks: pd.DataFrame | None
    exits: pd.DataFrame | None
    curves: pd.DataFrame | None
    suggested: Sequence[Mapping[str, Any]] | None
    losses: Mapping[str, Sequence[tuple[int, float]]]

    @property
    def short_id(self) -> str:
        return self.id[:SHORT]


class PastRuns:
    """The runs in the store of the project in `folder`. Every method raises InputError where the store fails."""

    def __init__(self, folder: Path) -> None:
        self.uri = tracking.store_uri(folder)
        database = Path(self.uri.removeprefix("sqlite:///"))
        if self.uri.startswith("sqlite:///") and "?" not in self.uri and not database.is_file():
            raise InputError(f"{database} does not exist: no run was tracked yet; `kedro run` makes one")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self.client = self._ask(tracking.open_client, self.uri)
        experiments = self._ask(self.client.search_experiments)
        self.experiments = {found.name: found.experiment_id for found in experiments}

    def find(self, names: Sequence[str], experiment: str) -> list[PastRun]:
        """The runs that a user names: by id, the beginning of one, name, or as latest~N of `experiment`.

        A sweep stands for its members. Raises InputError for a name that is none's or several runs', and for a run
        that has no records.
        """
        found: dict[str, Any] = {}
        for name in names:
            run = self._named(name, experiment)
            members = self._members(run.info.run_id) if SWEEP in run.data.tags else [run]
            found |= {member.info.run_id: member for member in members}
        return [self._read(run) for run in found.values()]

    def with_records(self, sweep_id: str) -> list[PastRun]:
        """The members of a sweep that have results, in the order they were begun."""
        return [self._read(run) for run in self._members(sweep_id) if self._has_records(run)]

    def _named(self, name: str, experiment: str) -> Any:
        runs = self._search([*self.experiments.values()], "tags.experiment_key LIKE '%'")
        if latest := re.fullmatch(r"latest(?:~(\d+))?", name):
            return self._latest(runs, experiment, int(latest[1] or 0), name)
        for matching in (
            [run for run in runs if run.info.run_id == name],
            [run for run in runs if run.info.run_name == name],
            [run for run in runs if name and run.info.run_id.startswith(name)],
        ):
            if len(matching) == 1:
                return matching[0]
            if matching:
                raise InputError(f"{name!r} is {len(matching)} runs, name one by its id: {_listed(matching)}")
        known = f"the newest are {_listed(runs[:3])}" if runs else "there is none yet"
        raise InputError(f"no run has the name {name!r}, or an id that begins so; {known}; or say latest, latest~1, …")

    def _latest(self, runs: Sequence[Any], experiment: str, back: int, name: str) -> Any:
        own = (
            run
            for run in runs
            if run.info.experiment_id == self.experiments.get(experiment)
            and run.info.status == "FINISHED"
            and MEMBERS_OF not in run.data.tags
        )
        finished = [run for _, run in zip(range(back + 1), filter(self._has_records, own), strict=False)]
        if len(finished) <= back:
            raise InputError(
                f"there is no {name!r}: the experiment {experiment!r} has {len(finished) or 'no'} finished "
                f"run{'' if len(finished) == 1 else 's'} with a report, those of sweeps not counted"
            )
        return finished[back]

    def _members(self, sweep_id: str) -> list[Any]:
        """Oldest first."""
        return self._search([*self.experiments.values()], f"tags.`{MEMBERS_OF}` = '{sweep_id}'")[::-1]

    def _search(self, experiment_ids: Sequence[str], condition: str) -> list[Any]:
        """Newest first."""
        found: list[Any] = []
        token = None
        while True:
            page = self._ask(
                self.client.search_runs,
                experiment_ids,
                condition,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def _has_records(self, run: Any) -> bool:
        return {"records.json", "metrics.json"} <= self._artifacts(run)

    def _artifacts(self, run: Any, folder: str | None = None) -> set[str]:
        return {entry.path for entry in self._ask(self.client.list_artifacts, run.info.run_id, folder)}

    def _read(self, run: Any) -> PastRun:
        name = f"{run.info.run_name} ({run.info.run_id[:SHORT]})"
        if not self._has_records(run):
            status = run.info.status.lower()
            raise InputError(f"{name} has no records to compare: it is {status}, and made no report")
        with tempfile.TemporaryDirectory() as folder:
            kept = self._artifacts(run, TABLES)
            tables = {f"{TABLES}/{name}.parquet" for name in (BLOCKS, EXITS, CURVES)} | {f"{TABLES}/{SUGGESTED}.json"}
            fetched = {
                Path(path).stem: Path(self._ask(self.client.download_artifacts, run.info.run_id, path, folder))
                for path in ("records.json", "metrics.json", *(tables & kept))
            }
            try:
                blocks, exits, curves = (
                    load_table(fetched[name]) if name in fetched else None for name in (BLOCKS, EXITS, CURVES)
                )
                records = json.loads(fetched["records"].read_text())
                return PastRun(
                    id=run.info.run_id,
                    name=run.info.run_name,
                    started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
                    params=run.data.params,
                    tags=run.data.tags,
                    records=tuple(map(MetricRecord.model_validate, records)),
                    recommendation=json.loads(fetched["metrics"].read_text())["recommendation"],
                    blocks=blocks,
                    exits=exits,
                    curves=curves,
                    suggested=json.loads(fetched[SUGGESTED].read_text()) if SUGGESTED in fetched else None,
                    losses=self._losses(run.info.run_id),
                )
            except (OSError, ValidationError, ValueError, KeyError) as error:
                reason = str(error).split("\n")[0]
                raise InputError(f"{name}: its records are not those of this version ({reason})") from error

    def _losses(self, run_id: str) -> dict[str, list[tuple[int, float]]]:
        losses = {}
        for child in self._members(run_id):
            if child.info.run_name.startswith("train "):
                points = self._ask(self.client.get_metric_history, child.info.run_id, "loss")
                by_step = {point.step: point.value for point in points}  # a training gone on with logs steps anew
                losses[child.info.run_name.removeprefix("train ")] = sorted(by_step.items())
        return losses

    def _ask(self, question: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return question(*arguments, **options)
        except Exception as error:  # the store may be anything, and so may its errors
            raise InputError(f"MLflow's store {self.uri} cannot be read: {tracking.reason(error)}") from error


def _listed(runs: Sequence[Any]) -> str:
    return ", ".join(f"{run.info.run_id[:SHORT]} ({run.info.run_name})" for run in runs)
