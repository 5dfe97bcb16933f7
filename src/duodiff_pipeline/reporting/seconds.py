"""Seconds by the clock against those that multiply-accumulates predict, batch by batch, and why they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .findings import Findings
from .measured import MeasuredPlan
from .wording import listed, percent

# shares that differ by less are called alike
ALIKE = 0.05


@dataclass(frozen=True)
class TimedPlan:
    """Seconds an image: predicted, from the baseline's for a multiply-accumulate at this batch, and measured: the
    median of some rounds, low and high being the extremes.
    """

    plan: MeasuredPlan
    predicted: float
    measured: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        return self.measured / self.predicted


@dataclass(frozen=True)
class TimedBatch:
    """outside: of an evaluation by the deep and by the shallow network, the share of time outside matrix products."""

    images: int
    plans: tuple[TimedPlan, ...]
    outside: Mapping[str, float]

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Of the plans that are not the baseline, measured over predicted: the smallest, the median, the largest."""
        ratios = sorted(timed.ratio for timed in self.plans[1:])
        return ratios[0], median(ratios), ratios[-1]


def timed_batches(findings: Findings, by_batch: Sequence[Mapping[str, Any]]) -> list[TimedBatch]:
    """In ascending order, the baseline first in each; by_batch: of the timings."""
    baseline = findings.baseline
    found = []
    for batch in sorted(by_batch, key=lambda batch: batch["images"]):
        rate = batch["plans"][baseline.name]["seconds_per_image"] / baseline.gmacs
        timed = [
            TimedPlan(plan, rate * plan.gmacs, own["seconds_per_image"], own["low"], own["high"])
            for plan in findings.plans
            if (own := batch["plans"].get(plan.name))
        ]
        found.append(TimedBatch(batch["images"], tuple(timed), batch["outside_matrix_products"]))
    return found


def why_seconds_differ(batches: Sequence[TimedBatch], findings: Findings) -> str:
    """What the profile says: how much of the time multiply-accumulates do not count, and what that accounts for."""
    deep, shallow = findings.baseline, findings.shallow.plan
    shares = listed(
        f"{percent(batch.outside['deep'])} and {percent(batch.outside['shallow'])} at a batch of {batch.images}"
        for batch in batches
    )
    text = (
        "GMACs count matrix products alone. Norms, activations, copies and the calls themselves take the rest of the "
        f"time, of one evaluation by {deep.serves[0]} and by {shallow.serves[0]} {shares}."
    )
    if batches[0].outside["deep"] - batches[-1].outside["deep"] > ALIKE:
        text += " A call costs the same for one image as for many, so small batches pay most."
    took = [next(timed.ratio for timed in batch.plans if timed.plan.name == shallow.name) for batch in batches]
    explained = [_accounted(batch) for batch in batches]
    return (
        f"{text} Where products run as fast in both, {shallow.name} should for that take {_times(explained)} times the "
        f"seconds that GMACs predict; it takes {_times(took)}."
    )


def _accounted(batch: TimedBatch) -> float:
    """Of the shallow network, seconds over prediction if both spend the same seconds on a multiply-accumulate."""
    deep, shallow = (max(1 - batch.outside[role], 1e-3) for role in ("deep", "shallow"))
    return deep / shallow


def _times(ratios: Sequence[float]) -> str:
    return listed(f"{ratio:.2f}" for ratio in ratios)
