"""Confidence intervals of a metric from disjoint seed blocks, and of a difference from trainings of several seeds.

The Fréchet distance of n images is biased by an amount that depends on n, and resampling images only adds to the bias
(duplicates look like missing variety). So each block is a sample of its own of equal n, and the interval is that of
the expected value at that n. Blocks say nothing about another training; for that, trainings are the sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

MIN_BLOCKS = 5
MIN_TRAININGS = 3  # each costs a whole experiment
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the interval low..high that `method` gave it."""

    value: float
    low: float
    high: float
    method: str

    def within(self, least: float, most: float) -> "Interval":
        """Its ends no further than the metric itself can go."""
        return replace(self, low=max(least, self.low), high=min(most, self.high))


def block_interval(blocks: Sequence[float], shared_variance: float = 0.0) -> Interval:
    """Mean of the values of at least 5 disjoint blocks of equal n, with its Student-t 95 % interval.

    shared_variance: of what moves all blocks alike, so that their differences cannot show it.

    Raises ValueError for fewer blocks and for values that are not finite.
    """
    _require_blocks(blocks)
    return _student_t(blocks, _block_method(len(blocks)), shared_variance)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the same blocks (the same seeds in the same order), with its Student-t 95 % interval.

    Raises ValueError for unequal numbers of blocks, fewer than 5 blocks, and values that are not finite.
    """
    if len(a) != len(b):
        raise ValueError(f"a paired difference needs the same blocks twice, not {len(a)} and {len(b)}")
    _require_blocks(a)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return _student_t(differences, f"Student t, {CONFIDENCE:.0%}, paired over {len(a)} seed blocks")


def training_interval(values: Sequence[float]) -> Interval:
    """Mean of one value from each of at least 3 training seeds, with its Student-t 95 % interval.

    Raises ValueError for fewer trainings and for values that are not finite.
    """
    if len(values) < MIN_TRAININGS:
        raise ValueError(f"an interval over trainings needs at least {MIN_TRAININGS} training seeds, not {len(values)}")
    return _student_t(values, f"Student t, {CONFIDENCE:.0%}, {len(values)} training seeds")


def unpaired_difference(a: Interval, a_blocks: int, b: Interval, b_blocks: int) -> Interval:
    """a - b for intervals of `block_interval` over blocks that are not the same, with Welch's 95 % interval.

    Raises ValueError where an interval was made in another way, since its width is then no standard error of a mean.
    """
    for side, blocks in ((a, a_blocks), (b, b_blocks)):
        if side.method != _block_method(blocks):
            raise ValueError(f"an unpaired difference needs intervals by {_block_method(blocks)}, not {side.method}")
    variance_a, variance_b = (
        ((side.high - side.low) / 2 / _t_quantile(n - 1)) ** 2 for side, n in ((a, a_blocks), (b, b_blocks))
    )
    variance = variance_a + variance_b
    freedom = variance**2 / (variance_a**2 / (a_blocks - 1) + variance_b**2 / (b_blocks - 1)) if variance else 1.0
    half = _t_quantile(freedom) * math.sqrt(variance)
    value = a.value - b.value
    method = f"Welch's t, {CONFIDENCE:.0%}, unpaired, {a_blocks} and {b_blocks} seed blocks"
    return Interval(value, value - half, value + half, method)


def _block_method(blocks: int) -> str:
    return f"Student t, {CONFIDENCE:.0%}, {blocks} seed blocks"


def _t_quantile(freedom: float) -> float:
    """Of Student's t: how many standard errors half an interval is wide."""
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _require_blocks(values: Sequence[float]) -> None:
    if len(values) < MIN_BLOCKS:
        raise ValueError(f"an interval needs at least {MIN_BLOCKS} seed blocks, not {len(values)}")


def _student_t(values: Sequence[float], method: str, shared_variance: float = 0.0) -> Interval:
    if not np.isfinite(values).all():
        raise ValueError(f"an interval needs finite values, not {list(values)}")
    mean = float(np.mean(values))
    standard_error = math.sqrt(float(np.var(values, ddof=1)) / len(values) + shared_variance)
    half = _t_quantile(len(values) - 1) * standard_error
    return Interval(mean, mean - half, mean + half, method)
