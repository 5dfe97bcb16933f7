"""The Fréchet distance that infinitely many generated images would have.

The distance of n images is too large by about a constant over n, and by another constant for every generator, so that
no n is fair (Chong & Forsyth 2020, arXiv 1911.07023, section 3). Over 1/n it lies nearly on a line, whose value at
1/n = 0 estimates the distance without that bias. Here the line is fitted, with equal weights, to the distance of all
images and to the mean ones of their halves, thirds and quarters: every point uses all images, in disjoint parts. The
bias by the reference's own number of images stays.
"""

import numpy as np
from numpy.typing import NDArray

from .frechet import GaussianStatistics, distance_of_features

PARTS = (1, 2, 3, 4)
FEWEST_IMAGES = 2 * max(PARTS)


def fid_infinity(features: NDArray[np.floating], reference: GaussianStatistics) -> float:
    """Of the features (N, D) of generated images; may be below 0. It costs the distance ten times.

    Raises ValueError for fewer than `FEWEST_IMAGES` images.
    """
    n = len(features)
    if n < FEWEST_IMAGES:
        raise ValueError(f"an extrapolation to infinitely many images needs at least {FEWEST_IMAGES}, not {n}")
    sizes = [n // parts for parts in PARTS]
    distances = [
        np.mean([distance_of_features(features[i * size : (i + 1) * size], reference) for i in range(parts)])
        for parts, size in zip(PARTS, sizes, strict=True)
    ]
    intercept, _ = np.polynomial.polynomial.polyfit(1 / np.array(sizes), distances, 1)
    return float(intercept)


def infinity_warnings(n_generated: int, n_features: int) -> tuple[str, ...]:
    """What `MetricRecord.warnings` must say where the smallest parts are too few for the line to hold."""
    fewest = n_generated // PARTS[-1]
    if fewest >= n_features:
        return ()
    return (f"parts of {fewest} generated images for {n_features} features: the extrapolation goes too far",)
