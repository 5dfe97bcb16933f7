"""Confidence intervals of a metric from disjoint seed blocks.

The Fréchet distance of n images is biased by an amount that depends on n, and resampling images only adds to the bias
(duplicates look like missing variety). So each block is a sample of its own of equal n, and the interval is that of
the expected value at that n.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

MIN_BLOCKS = 5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the interval low..high that `method` gave it."""

    value: float
    low: float
    high: float
    method: str


def block_interval(blocks: Sequence[float], shared_variance: float = 0.0) -> Interval:
    """Mean of the values of at least 5 disjoint blocks of equal n, with its Student-t 95 % interval.

    shared_variance: of what moves all blocks alike, so that their differences cannot show it.

    Raises ValueError for fewer blocks and for values that are not finite.
    """
    return _student_t(blocks, f"Student t, {CONFIDENCE:.0%}, {len(blocks)} seed blocks", shared_variance)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the same blocks (the same seeds in the same order), with its Student-t 95 % interval.

    Raises ValueError for unequal numbers of blocks, fewer than 5 blocks, and values that are not finite.
    """
    if len(a) != len(b):
        raise ValueError(f"a paired difference needs the same blocks twice, not {len(a)} and {len(b)}")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return _student_t(differences, f"Student t, {CONFIDENCE:.0%}, paired over {len(a)} seed blocks")


def _student_t(values: Sequence[float], method: str, shared_variance: float = 0.0) -> Interval:
    if len(values) < MIN_BLOCKS:
        raise ValueError(f"an interval needs at least {MIN_BLOCKS} seed blocks, not {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError(f"an interval needs finite values, not {list(values)}")
    mean = float(np.mean(values))
    standard_error = math.sqrt(float(np.var(values, ddof=1)) / len(values) + shared_variance)
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * standard_error
    return Interval(mean, mean - half, mean + half, method)
