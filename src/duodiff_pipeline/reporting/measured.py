"""What evaluation measured of every plan, put together; what does not compare is refused here, once for all readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any, get_args

import pandas as pd
from pydantic import ValidationError

from ..diffusion.solvers import Solver
from ..errors import InputError
from ..metrics.against_reference import MoreMetric
from ..metrics.records import LABEL_ACCURACY, MetricRecord, require_comparable
from ..networks.files import BYTES_PER_PARAMETER

MEMORISATION = ("memorisation_features", "memorisation_pixels")
METRICS = ("fid", "kid", *MEMORISATION)
MORE_METRICS: tuple[str, ...] = (*get_args(MoreMetric), LABEL_ACCURACY)  # where they were measured


@dataclass(frozen=True)
class MeasuredPlan:
    """An evaluated plan with its metric records, seed blocks and measured time.

    role: deep, shallow, duodiff, adadiff, ase, multistage, front or control; runs: who serves how many evaluations,
    noise to data; switches: the number of evaluations before each edge; records: by metric; fid_blocks, kid_blocks:
    FID and KID in every seed block, in the order of the records' seeds; exit_depth: blocks executed, mean over
    evaluations, images and blocks; speed_up: against the baseline, median over blocks, low and high being the
    extremes; seconds_blocks: an image, in every seed block; note: what must be said of it.
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
    records: Mapping[str, MetricRecord]
    fid_blocks: tuple[float, ...]
    kid_blocks: tuple[float, ...]
    exit_depth: float
    seconds_per_image: float
    speed_up: float
    speed_up_low: float
    speed_up_high: float
    seconds_blocks: tuple[float, ...]
    note: str = ""

    @property
    def record(self) -> MetricRecord:
        """Of FID."""
        return self.records["fid"]

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
    def more_metrics(self) -> tuple[str, ...]:
        """Of `MORE_METRICS`, those that were measured."""
        return tuple(metric for metric in MORE_METRICS if metric in self.records)

    @property
    def memorises(self) -> bool:
        """Whether a whole interval of the samples nearer to training than to held-out images lies above chance."""
        found = [self.records[metric] for metric in MEMORISATION]
        return any(record.interval_low > (record.expected or 0) for record in found)

    @property
    def resident_mb(self) -> float:
        """Megabytes (1e6 bytes) of all networks it needs, at 4 bytes a parameter."""
        return self.resident_parameters * BYTES_PER_PARAMETER / 1e6


def measured_plans(
    records: Sequence[Mapping[str, Any]],
    evaluated: Sequence[Mapping[str, Any]],
    seed_blocks: pd.DataFrame,
    timings: Mapping[str, Any],
) -> tuple[MeasuredPlan, ...]:
    """All evaluated plans in their order, the baseline first.

    Raises InputError where a plan lacks a record, a seed block or its seconds, and where plans do not compare.
    """
    own_records = {(record.denoiser, record.name): record for record in map(_record, records)}
    blocks = {(row["plan"], row["seed"]): row for row in seed_blocks.to_dict("records")}
    plans = [_measured(described, own_records, blocks, timings["sampling"]) for described in evaluated]
    if not plans or plans[0].role != "deep":
        raise InputError("evaluated_plans: the first plan must be the baseline, of role deep")
    if "shallow" not in {plan.role for plan in plans}:
        raise InputError("evaluated_plans: none has the role shallow, which the baseline is held against")
    for plan, metric in product(plans[1:], (*METRICS, *plans[0].more_metrics)):
        if metric not in plan.records:
            raise InputError(f"records: no {metric} of the evaluated plan {plan.name!r}")
        _require_same_blocks(plans[0].records[metric], plan.records[metric])
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
    records: Mapping[tuple[str, str], MetricRecord],
    blocks: Mapping[Any, Any],
    sampling: Mapping[str, Any],
) -> MeasuredPlan:
    name = described["name"]
    for metric in METRICS:
        if (name, metric) not in records:
            raise InputError(f"records: no {metric} of the evaluated plan {name!r}")
    if name not in sampling:
        raise InputError(f"timings: no seconds of the evaluated plan {name!r}")
    seeds = records[name, "fid"].seeds
    missing = [seed for seed in seeds if (name, seed) not in blocks]
    if missing:
        raise InputError(f"seed_blocks: {name!r} lacks the seeds {missing}")
    copied = ("role", "runs", "exit_threshold", "nfe", "resident_parameters", "training_gmacs")
    return MeasuredPlan(
        name=name,
        **{field: described[field] for field in copied},
        solver=Solver.from_dict(described),
        edges=tuple(described["edges"]),
        serves=tuple(described["serves"]),
        switches=tuple(described["switches"]),
        records={metric: record for (of, metric), record in records.items() if of == name},
        fid_blocks=tuple(float(blocks[name, seed]["fid"]) for seed in seeds),
        kid_blocks=tuple(float(blocks[name, seed]["kid"]) for seed in seeds),
        exit_depth=fmean(float(blocks[name, seed]["exit_depth"]) for seed in seeds),
        **{**sampling[name], "seconds_blocks": tuple(sampling[name]["seconds_blocks"])},
        note=described["note"],
    )
