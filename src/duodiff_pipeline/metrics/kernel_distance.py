"""The squared maximum mean discrepancy of two sets of features under the cubic kernel, without bias.

Of Inception features this is the KID (Bińkowski et al. 2018, arXiv 1801.01401, section 4 and eq. 4):

    d(x, y) = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j),
    k(u, v) = (u.v / D + 1)^3

All images of both sets enter: no subsets are drawn. Symbols: x (N, D), y (M, D) features, D features. It is float64.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .extractor import require_finite

KERNEL_ENTRIES = 2**22  # held at once: 32 MB


@dataclass(frozen=True, eq=False)
class KernelSample:
    """Features (N, D) float64 of a set of images."""

    features: NDArray[np.float64]

    @classmethod
    def from_features(cls, features: NDArray[np.floating]) -> "KernelSample":
        """Of features (N, D). Raises ValueError for fewer than 2 images and for features that are not finite."""
        if len(features) < 2:
            raise ValueError(f"a kernel distance without bias needs at least 2 images, not {len(features)}")
        require_finite(features)
        return cls(features.astype(np.float64))

    @cached_property
    def within(self) -> float:
        """Mean kernel of two different images; computed once, so a reference that is compared to often pays it once."""
        n = len(self.features)
        with_themselves = _cubic((self.features**2).sum(axis=1) / self.features.shape[1]).sum()
        return (_kernel_sum(self.features, self.features) - float(with_themselves)) / (n * (n - 1))


def kernel_distance(a: KernelSample, reference: KernelSample) -> float:
    """Squared maximum mean discrepancy; symmetric, 0 on average for two samples of one distribution, so often below 0.

    Raises ValueError where the numbers of features differ.
    """
    x, y = a.features, reference.features
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"samples of {x.shape[1]} and {y.shape[1]} features have no distance")
    return a.within + reference.within - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _kernel_sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of all pairs of rows."""
    rows = max(1, KERNEL_ENTRIES // len(y))
    scaled = y.T / y.shape[1]
    return math.fsum(float(_cubic(x[start : start + rows] @ scaled).sum()) for start in range(0, len(x), rows))


def _cubic(products: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = products + 1
    return shifted * shifted * shifted
