import math

import numpy as np
import pytest
import scipy.stats

from duodiff_pipeline.metrics.frechet import GaussianStatistics, frechet_distance
from duodiff_pipeline.metrics.intervals import (
    Interval,
    block_interval,
    paired_difference,
    training_interval,
    unpaired_difference,
)

T_4_DEGREES = 2.7764451051978  # 97.5 % quantile of Student's t, from tables


def coverage(draws, truth) -> float:
    """Share of intervals over rows of draws (R, blocks) that hold the truth."""
    intervals = [block_interval(row) for row in draws]
    return sum(i.low <= truth <= i.high for i in intervals) / len(intervals)


def test_interval_written_out():
    half = T_4_DEGREES * math.sqrt(2.5 / 5)
    expected = Interval(3.0, 3 - half, 3 + half, "Student t, 95%, 5 seed blocks")
    found = block_interval([1, 2, 3, 4, 5])
    assert found.method == expected.method
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_paired_difference_written_out():
    half = T_4_DEGREES * math.sqrt(2.5 / 5)
    found = paired_difference([11, 22, 33, 44, 55], [10, 20, 30, 40, 50])
    assert found.method == "Student t, 95%, paired over 5 seed blocks"
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half))


def test_the_interval_over_trainings_is_that_of_a_t_test():
    values = [0.31, -0.05, 0.4]
    found, expected = training_interval(values), scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((0.22, expected.low, expected.high))
    assert found.method == "Student t, 95%, 3 training seeds"


@pytest.mark.parametrize("blocks", [5, 12])
def test_coverage_of_gaussian_values(blocks):
    draws = np.random.default_rng(0).normal(7, 2, size=(2000, blocks))
    assert 0.88 <= coverage(draws, truth=7) <= 0.99


def block_distances(n_blocks: int, n: int, reference: GaussianStatistics, rng, shift: float) -> np.ndarray:
    """Distances (n_blocks,) to the reference of blocks of n images from a Gaussian `shift` away from it."""
    blocks = rng.normal(shift, 1, size=(n_blocks, n, reference.n_features))
    return np.array([frechet_distance(GaussianStatistics.from_features(b), reference) for b in blocks])


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_coverage_of_the_frechet_distance_of_blocks(shift):
    """The real use: 5 blocks of n images. The truth is the expected distance at that n, bias included."""
    reference = GaussianStatistics(np.zeros(8), np.eye(8), 599)
    rng = np.random.default_rng(1)
    truth = block_distances(4000, 100, reference, rng, shift).mean()
    asymptote = 8 * shift**2
    assert truth > asymptote + 0.1  # so that an interval for the distance at infinite n would fail
    draws = block_distances(5 * 800, 100, reference, rng, shift).reshape(800, 5)
    assert 0.88 <= coverage(draws, truth) <= 0.99


def test_paired_differences_cover_and_are_narrower_where_blocks_share_noise():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 3, size=(1000, 5))
    a, b = shared + rng.normal(2, 1, size=(1000, 5)), shared + rng.normal(0.5, 1, size=(1000, 5))
    paired = [paired_difference(x, y) for x, y in zip(a, b, strict=True)]
    covered = sum(i.low <= 1.5 <= i.high for i in paired) / 1000
    assert 0.88 <= covered <= 0.99
    width = np.mean([i.high - i.low for i in paired])
    alone = np.mean([block_interval(x).high - block_interval(x).low for x in a])
    assert width < 0.6 * alone


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: block_interval([1, 2, 3, 4]), "an interval needs at least 5 seed blocks, not 4"),
        (lambda: paired_difference([1, 2], [1, 2]), "an interval needs at least 5 seed blocks, not 2"),
        (lambda: training_interval([1, 2]), "an interval over trainings needs at least 3 training seeds, not 2"),
        (lambda: training_interval([1, 2, math.inf]), r"an interval needs finite values, not \[1, 2, inf\]"),
        (lambda: paired_difference([1] * 6, [1] * 5), "a paired difference needs the same blocks twice, not 6 and 5"),
        (
            lambda: block_interval([1.0, 2.0, math.nan, 4.0, 5.0]),
            r"an interval needs finite values, not \[1.0, 2.0, nan, 4.0, 5.0\]",
        ),
    ],
)
def test_too_little_for_an_interval_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def test_the_unpaired_difference_is_welch_s():
    a, b = [5.0, 5.4, 4.9, 5.6, 5.1, 5.3], [6.1, 6.0, 7.4, 5.2, 6.6]
    found = unpaired_difference(block_interval(a), len(a), block_interval(b), len(b))
    expected = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(a) - np.mean(b), expected.low, expected.high))
    assert found.method == "Welch's t, 95%, unpaired, 6 and 5 seed blocks"


def test_the_unpaired_difference_of_values_without_spread():
    a, b = block_interval([2.0] * 5), block_interval([1.0] * 5)
    found = unpaired_difference(a, 5, b, 5)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_an_unpaired_difference_of_other_intervals_is_refused():
    student = block_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    with pytest.raises(ValueError, match="needs intervals by Student t, 95%, 5 seed blocks, not jackknife"):
        unpaired_difference(student, 5, Interval(1, 0, 2, "jackknife"), 5)
    with pytest.raises(ValueError, match="by Student t, 95%, 4 seed blocks, not Student t, 95%, 5 seed blocks"):
        unpaired_difference(student, 4, student, 5)
