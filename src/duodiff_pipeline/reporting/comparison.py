"""What past runs say beside one another: parameters that differ, and differences of metrics against the first run.

Only plans of the same name are set against each other, and only where their records compare. A difference is paired
over the seed blocks where both runs have the same seeds: images of the same seed and index then start from the same
noise. Otherwise it is Welch's, of the two intervals. Either holds for the networks as they were trained: what another
seed of training would have given is in neither, but in `training_seeds`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..metrics.intervals import Interval, paired_difference, unpaired_difference
from ..metrics.records import MetricRecord, incomparable
from ..past_runs import PastRun

LOWER_IS_BETTER = ("fid", "kid", "fid_infinity")
HIGHER_IS_BETTER = ("precision", "recall")
FIRST_METRIC = "fid"


@dataclass(frozen=True)
class Compared:
    """One plan of one run by one metric; record is None where the run has none.

    difference: to the first run, None in that run itself and where `refusal` says why there is none.
    """

    record: MetricRecord | None
    difference: Interval | None = None
    refusal: str = ""

    @property
    def standing(self) -> str:
        """Better, worse, higher or lower than the first run, where the whole interval says so."""
        if self.record is None or self.difference is None:
            return ""
        if self.difference.low <= 0 <= self.difference.high:
            return "indistinguishable"
        higher = self.difference.low > 0
        if self.record.name in LOWER_IS_BETTER:
            return "worse" if higher else "better"
        if self.record.name in HIGHER_IS_BETTER:
            return "better" if higher else "worse"
        return "higher" if higher else "lower"


def differing_parameters(runs: Sequence[PastRun]) -> dict[str, list[str | None]]:
    """The values by run of every parameter that is not the same in all; None where a run has no such parameter."""
    keys = sorted(set().union(*(run.params for run in runs)))
    values = {key: [run.params.get(key) for run in runs] for key in keys}
    return {key: by_run for key, by_run in values.items() if len(set(by_run)) > 1}


def metrics(runs: Sequence[PastRun]) -> list[str]:
    """The names of all metrics, FID first."""
    names = dict.fromkeys(record.name for run in runs for record in run.records)
    return sorted(names, key=lambda name: name != FIRST_METRIC)


def compared(runs: Sequence[PastRun], metric: str) -> dict[str, list[Compared]]:
    """Every plan in every run, in the order of the first run that has it."""
    records = [{r.denoiser: r for r in run.records if r.name == metric} for run in runs]
    plans = dict.fromkeys(plan for own in records for plan in own)
    by_run = list(zip(runs, records, strict=True))
    return {
        plan: [_against_first(runs[0], records[0].get(plan), run, own.get(plan)) for run, own in by_run]
        for plan in plans
    }


def refusals(runs: Sequence[PastRun], metric: str) -> dict[int, str]:
    """Why the metric of a run, by its place, does not compare with that of the first, where it does not."""
    found = {}
    first, *others = (next((r for r in run.records if r.name == metric), None) for run in runs)
    for place, own in enumerate(others, start=1):
        if first is None or own is None:
            found[place] = f"there is no {metric} in {'this run' if own is None else 'the first run'}"
        elif reason := incomparable(own, first):
            found[place] = shortened(reason)
    return found


def shortened(reason: str) -> str:
    """With eight digits of each sha256."""
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", "\\1\N{HORIZONTAL ELLIPSIS}", reason)


def _against_first(
    first_run: PastRun, first: MetricRecord | None, run: PastRun, record: MetricRecord | None
) -> Compared:
    if record is None or run is first_run:
        return Compared(record)
    if first is None:
        return Compared(record, refusal="the first run has no such plan")
    if reason := incomparable(record, first):
        return Compared(record, refusal=f"does not compare: {shortened(reason)}")
    try:
        return Compared(record, _difference(run, record, first_run, first))
    except ValueError as error:
        return Compared(record, refusal=str(error))


def _difference(run: PastRun, record: MetricRecord, first_run: PastRun, first: MetricRecord) -> Interval:
    if record.expected is not None:
        raise ValueError("no difference: which images were held out moves both")
    if sorted(record.seeds) == sorted(first.seeds):
        own, other = _by_seed(run, record), _by_seed(first_run, first)
        if own.keys() == other.keys() == set(record.seeds):
            return paired_difference([own[seed] for seed in record.seeds], [other[seed] for seed in record.seeds])
    return unpaired_difference(_interval(record), len(record.seeds), _interval(first), len(first.seeds))


def _by_seed(run: PastRun, record: MetricRecord) -> dict[int, float]:
    """The metric in every seed block; empty where the run did not keep them."""
    if run.blocks is None or record.name not in run.blocks:
        return {}
    own = run.blocks[run.blocks["plan"] == record.denoiser]
    return dict(zip(own["seed"].astype(int), own[record.name].astype(float), strict=True))


def _interval(record: MetricRecord) -> Interval:
    return Interval(record.value, record.interval_low, record.interval_high, record.interval_method)
