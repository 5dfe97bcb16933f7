"""The squared maximum mean discrepancy of two sets of features under the cubic kernel, without bias.

Of Inception features this is the KID (Bińkowski et al. 2018, arXiv 1801.01401, section 4 and eq. 4):

    d(x, y) = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j),
    k(u, v) = (u.v / D + 1)^3

All images of both sets enter: no subsets are drawn. Symbols: x (N, D), y (M, D) features, D features. It is float64,
a block of pairs at a time: N (N / 2 + M) D multiply-accumulates, some 100 MB beside the features.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .blocks import blocks, require_finite


@dataclass(frozen=True, eq=False)
class KernelSample:
    """Features (N, D) of a set of images."""

    features: NDArray[np.floating]

    @classmethod
    def from_features(cls, features: NDArray[np.floating]) -> "KernelSample":
        """Of features (N, D). Raises ValueError for fewer than 2 images and for features that are not finite."""
        if len(features) < 2:
            raise ValueError(f"a kernel distance without bias needs at least 2 images, not {len(features)}")
        require_finite(features)
        return cls(features)

    @cached_property
    def within(self) -> float:
        """Mean kernel of two different images; computed once, so a reference that is compared to often pays it once."""
        n = len(self.features)
        sums = []
        for rows, x in blocks(self.features):
            sums += [-_cubic((x**2).sum(axis=1) / x.shape[1]).sum()]  # each with itself
            for columns, y in blocks(self.features[: rows.stop]):
                sums += [_cubic(x @ (y.T / y.shape[1])).sum() * (1 if columns == rows else 2)]
        return math.fsum(sums) / (n * (n - 1))


def kernel_distance(a: KernelSample, reference: KernelSample) -> float:
    """Squared maximum mean discrepancy; symmetric, 0 on average for two samples of one distribution, so often below 0.

    Raises ValueError where the numbers of features differ.
    """
    x, y = a.features, reference.features
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"samples of {x.shape[1]} and {y.shape[1]} features have no distance")
    return a.within + reference.within - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _kernel_sum(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Of all pairs of rows."""
    return math.fsum(
        float(_cubic(some @ (others.T / y.shape[1])).sum()) for _, some in blocks(x) for _, others in blocks(y)
    )


def _cubic(products: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = products + 1
    return shifted * shifted * shifted
