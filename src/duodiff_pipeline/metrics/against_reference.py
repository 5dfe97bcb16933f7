"""Everything that generated features are measured by against the reference, by name."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .fid_infinity import fid_infinity
from .frechet import GaussianStatistics, distance_of_features
from .kernel_distance import KernelSample, kernel_distance
from .precision_recall import Manifold

FeatureMetric = Literal["fid", "kid", "fid_infinity", "precision", "recall"]
# costlier ones, measured where they are asked for
MoreMetric = Literal["fid_infinity", "precision", "recall"]


@dataclass(frozen=True, eq=False)
class AgainstReference:
    """statistics: of the reference; features (M, D): of real images, for what needs more than a Gaussian.

    All metrics take the same features (N, D), extracted once. Beside those 4 (N + M) D bytes they need at most 300 MB:
    1.1 GB in all for N = M = 50,000 and D = 2048.
    """

    statistics: GaussianStatistics
    features: NDArray[np.floating]

    def measure(self, metric: FeatureMetric, features: NDArray[np.floating]) -> float:
        """One metric of features (N, D); raises ValueError where they are too few or do not fit."""
        match metric:
            case "fid":
                return distance_of_features(features, self.statistics)
            case "kid":
                return kernel_distance(KernelSample.from_features(features), self._sample)
            case "fid_infinity":
                return fid_infinity(features, self.statistics)
            case "precision":
                return self._manifold.share_inside(features)
            case "recall":
                return Manifold(features).share_inside(self.features)

    @cached_property
    def _sample(self) -> KernelSample:
        return KernelSample.from_features(self.features)

    @cached_property
    def _manifold(self) -> Manifold:
        return Manifold(self.features)
