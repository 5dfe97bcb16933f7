"""What evaluation measured of every plan, put together; what does not compare is refused here, once for all readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import ValidationError

from ..diffusion.solvers import Solver
from ..errors import InputError
from ..metrics.records import MetricRecord, require_comparable

BYTES_PER_PARAMETER = 4


@dataclass(frozen=True)
class MeasuredPlan:
    """An evaluated plan with its metric record, seed blocks and measured time.

    role: deep, shallow, duodiff, adadiff or control; runs: who serves how many evaluations, noise to data; switches:
    the number of evaluations before each edge; fid_blocks: FID in every seed block, in the order of record.seeds;
    speed_up: against the baseline, median over blocks, low and high being the extremes.
    """

    name: str
    role: str
    solver: Solver
    edges: tuple[float, ...]
    serves: tuple[str, ...]
    runs: str
    exit_threshold: float | None
    nfe: int
    switches: tuple[int, ...]
    resident_parameters: int
    training_gmacs: float
    record: MetricRecord
    fid_blocks: tuple[float, ...]
    seconds_per_image: float
    speed_up: float
    speed_up_low: float
    speed_up_high: float

    @property
    def fid(self) -> float:
        return self.record.value

    @property
    def gmacs(self) -> float:
        return self.record.gmacs

    @property
    def k(self) -> int | None:
        """The switch, where there are two stages."""
        return self.switches[0] if len(self.switches) == 1 else None

    @property
    def resident_mb(self) -> float:
        """Megabytes (1e6 bytes) of all networks it needs, at 4 bytes a parameter."""
        return self.resident_parameters * BYTES_PER_PARAMETER / 1e6


def measured_plans(
    records: Sequence[Mapping[str, Any]],
    evaluated: Sequence[Mapping[str, Any]],
    fid_blocks: pd.DataFrame,
    timings: Mapping[str, Any],
) -> tuple[MeasuredPlan, ...]:
    """All evaluated plans in their order, the baseline first.

    Raises InputError where a plan lacks its record, a seed block or its seconds, and where plans do not compare.
    """
    own_records = {record.denoiser: record for record in map(_record, records)}
    fids = {(row["plan"], row["seed"]): row["fid"] for row in fid_blocks.to_dict("records")}
    plans = [_measured(described, own_records, fids, timings["sampling"]) for described in evaluated]
    if not plans or plans[0].role != "deep":
        raise InputError("evaluated_plans: the first plan must be the baseline, of role deep")
    if "shallow" not in {plan.role for plan in plans}:
        raise InputError("evaluated_plans: none has the role shallow, which the baseline is held against")
    for plan in plans[1:]:
        _require_same_blocks(plans[0].record, plan.record)
    return tuple(plans)


def _record(raw: Mapping[str, Any]) -> MetricRecord:
    try:
        return MetricRecord.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])) or "the record", first["msg"].removeprefix("Value error, ")
        raise InputError(f"records: {raw.get('denoiser', 'a record')}: {where}: {what}") from None


def _require_same_blocks(baseline: MetricRecord, other: MetricRecord) -> None:
    try:
        require_comparable(baseline, other)
    except ValueError as error:
        raise InputError(str(error)) from None
    if other.seeds != baseline.seeds:
        names = f"{baseline.denoiser} and {other.denoiser}"
        raise InputError(f"records of {names} do not pair: seeds are {baseline.seeds} and {other.seeds}")


def _measured(
    described: Mapping[str, Any],
    records: Mapping[str, MetricRecord],
    fids: Mapping[Any, Any],
    sampling: Mapping[str, Any],
) -> MeasuredPlan:
    name = described["name"]
    if name not in records:
        raise InputError(f"records: none is of the evaluated plan {name!r}")
    if name not in sampling:
        raise InputError(f"timings: no seconds of the evaluated plan {name!r}")
    record = records[name]
    missing = [seed for seed in record.seeds if (name, seed) not in fids]
    if missing:
        raise InputError(f"fid_blocks: {name!r} lacks the seeds {missing}")
    copied = ("role", "runs", "exit_threshold", "nfe", "resident_parameters", "training_gmacs")
    return MeasuredPlan(
        name=name,
        **{field: described[field] for field in copied},
        solver=Solver(described["solver"], described["steps"], described["eta"]),
        edges=tuple(described["edges"]),
        serves=tuple(described["serves"]),
        switches=tuple(described["switches"]),
        record=record,
        fid_blocks=tuple(float(fids[name, seed]) for seed in record.seeds),
        **sampling[name],
    )
