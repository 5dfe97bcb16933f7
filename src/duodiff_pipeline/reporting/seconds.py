"""Seconds by the clock against those that multiply-accumulates predict, batch by batch, and why they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ..metrics.seconds import Profile
from .findings import Findings
from .measured import MeasuredPlan
from .wording import listed, percent

# shares that differ by less are called alike
ALIKE = 0.05


@dataclass(frozen=True)
class TimedPlan:
    """Seconds an image: predicted, from the baseline's for a multiply-accumulate at this batch and what the plan itself
    executed there, and measured: the median of some rounds, low and high being the extremes.
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
    """profile: of the deep and of the shallow network alone, with the baseline's solver and steps."""

    images: int
    plans: tuple[TimedPlan, ...]
    profile: Mapping[str, Profile]

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
        of_baseline = batch["plans"][baseline.name]
        rate = of_baseline["seconds_per_image"] / of_baseline["gmacs"]
        timed = [
            TimedPlan(plan, rate * own["gmacs"], own["seconds_per_image"], own["low"], own["high"])
            for plan in findings.plans
            if (own := batch["plans"].get(plan.name))
        ]
        profile = {role: Profile(**own) for role, own in batch["profile"].items()}
        found.append(TimedBatch(batch["images"], tuple(timed), profile))
    return found


def why_seconds_differ(batches: Sequence[TimedBatch], findings: Findings) -> str:
    """What the profile says of the shallow network against the deep one: a ratio of seconds is that of GMACs, times
    that of the shares outside of products, times that of the seconds a product takes for a multiply-accumulate.
    """
    deep, shallow = findings.baseline, findings.shallow.plan
    shares = listed(
        f"{percent(batch.profile['deep'].outside)} and {percent(batch.profile['shallow'].outside)} at a batch of "
        f"{batch.images}"
        for batch in batches
    )
    text = (
        "GMACs count matrix products alone. Norms, activations, copies, the solver and the calls themselves take the "
        f"rest of the time, of runs by {deep.serves[0]} and by {shallow.serves[0]} {shares}."
    )
    if batches[0].profile["deep"].outside - batches[-1].profile["deep"].outside > ALIKE:
        text += " A call costs the same for one image as for many, so small batches pay most."
    parts = [_accounted(batch, shallow.gmacs / deep.gmacs) for batch in batches]
    rests, rates = zip(*parts, strict=True)
    took = [next(timed.ratio for timed in batch.plans if timed.plan.name == shallow.name) for batch in batches]
    return (
        f"{text} For that {shallow.name} takes {_times(rests)} times the seconds that GMACs predict. Its products take "
        f"{_times(rates)} times the seconds a multiply-accumulate of those of {deep.name}. Both make "
        f"{_times([rest * rate for rest, rate in parts])} times; timed by itself, it takes {_times(took)}."
    )


def _accounted(batch: TimedBatch, gmacs: float) -> tuple[float, float]:
    """Of the shallow network against the deep one, how many times the seconds that GMACs predict it takes for what lies
    outside of products, and for how fast these run; gmacs: its share of the deep network's.
    """
    deep, shallow = batch.profile["deep"], batch.profile["shallow"]
    of_rest = (1 - deep.outside) / (1 - shallow.outside)
    return of_rest, shallow.in_products / deep.in_products / gmacs


def _times(ratios: Sequence[float]) -> str:
    return listed(f"{ratio:.2f}" for ratio in ratios)
