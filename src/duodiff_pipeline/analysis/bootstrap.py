"""Bootstrap over whole images: what the evaluations of one image have in common stays together.

Symbols: N images, B resamples.
"""

import numpy as np
from numpy.typing import NDArray

from ..diffusion.random import keyed_generator

RESAMPLES = 1000
CONFIDENCE = 0.95
TAILS = (1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2


def resampled_weights(images: int, seed: int, purpose: str) -> NDArray[np.float64]:
    """(B, N) weights of the images in every resample; each row sums to 1."""
    counts = keyed_generator(seed, purpose).multinomial(images, np.full(images, 1 / images), RESAMPLES)
    weights: NDArray[np.float64] = counts / images
    return weights


def percentile_interval(resampled_b: NDArray[np.float64] | NDArray[np.int64]) -> tuple[float, float]:
    """Of what the resamples gave (B,), its ends rounded outwards to values that occurred."""
    low, high = TAILS
    ends = np.quantile(resampled_b, low, method="lower"), np.quantile(resampled_b, high, method="higher")
    return float(ends[0]), float(ends[1])
