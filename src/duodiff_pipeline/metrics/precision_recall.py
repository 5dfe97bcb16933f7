"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1 to 3).

Precision is the share of generated images that lie where real ones do, recall the share of real images that lie where
generated ones do; "where" is the union of balls around one set's features, each reaching to its k-th nearest neighbour
in the same set. What the distances mix, fidelity and variety, stands apart here. Both depend on the numbers of images.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .blocks import blocks, require_finite, squared_distances

ROUNDING = 1e-6  # of float32 features, relative to their norm


@dataclass(frozen=True, eq=False)
class Manifold:
    """Balls around the features (N, D) of a set of images, each reaching to its third nearest other.

    It takes N^2 D multiply-accumulates once, and N M D for M points asked about; memory is that of some blocks.
    """

    K: ClassVar[int] = 3

    features: NDArray[np.floating]

    @cached_property
    def squared_radii(self) -> NDArray[np.float64]:
        """(N,); raises ValueError for too few images and for features that are not finite."""
        if len(self.features) <= self.K:
            raise ValueError(f"the {self.K}-nearest neighbours of {len(self.features)} images do not exist")
        require_finite(self.features)
        radii = np.empty(len(self.features))
        for rows, x in blocks(self.features):
            nearest = np.full((len(x), self.K), np.inf)
            for columns, y in blocks(self.features):
                squared = squared_distances(x, y)
                if rows == columns:
                    np.fill_diagonal(squared, np.inf)  # none is a neighbour of its own
                squared.partition(min(self.K, squared.shape[1]) - 1, axis=1)  # in place, to hold no second one
                nearest = np.sort(np.concatenate([nearest, squared[:, : self.K]], axis=1), axis=1)[:, : self.K]
            radii[rows] = nearest[:, -1]
        return radii

    def share_inside(self, points: NDArray[np.floating]) -> float:
        """Of points (M, D), those within at least one ball.

        A distance that exceeds the radius by no more than rounding is within. Raises what `squared_radii` raises, and
        ValueError for other widths and points that are not finite.
        """
        if points.shape[1] != self.features.shape[1]:
            raise ValueError(f"points of {points.shape[1]} features lie on no manifold of {self.features.shape[1]}")
        require_finite(points)
        inside = 0
        for _, x in blocks(points):
            rounding = (ROUNDING**2 * (x**2).sum(axis=1))[:, None]
            found = np.zeros(len(x), bool)
            for columns, y in blocks(self.features):
                found |= (squared_distances(x, y) <= self.squared_radii[columns] + rounding).any(axis=1)
            inside += int(found.sum())
        return inside / len(points)
