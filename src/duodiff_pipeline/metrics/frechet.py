"""The Fréchet distance between two Gaussians, and the Gaussian that stands for a set of images.

Of Inception features this distance is the FID (Heusel et al. 2017, arXiv 1706.08500, eq. 6):

    d(a, b) = |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr (S_b^1/2 S_a S_b^1/2)^1/2

Symbols: mu (D,) mean, S (D, D) covariance, D features. All of it is float64.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .extractor import require_finite


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """Mean `mu` (D,) and covariance `sigma` (D, D) of the features of `n_images` images, float64."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    n_images: int

    @classmethod
    def from_features(cls, features: NDArray[np.floating]) -> "GaussianStatistics":
        """Of features (N, D), with the unbiased covariance.

        Raises ValueError for fewer than 2 images and for features that are not finite.
        """
        n = len(features)
        if n < 2:
            raise ValueError(f"a covariance needs at least 2 images, not {n}")
        require_finite(features)
        features = features.astype(np.float64)
        mu = features.mean(axis=0)
        centred = features - mu
        return cls(mu, centred.T @ centred / (n - 1), n)

    @property
    def n_features(self) -> int:
        return len(self.mu)

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """sigma^1/2 (D, D), symmetric; computed once, so a reference that is compared to often pays it once."""
        eigenvalues, vectors = np.linalg.eigh(self.sigma)
        root: NDArray[np.float64] = (vectors * np.sqrt(eigenvalues.clip(min=0))) @ vectors.T
        return root


def frechet_distance(a: GaussianStatistics, reference: GaussianStatistics) -> float:
    """Squared Fréchet distance of two Gaussians, in squared feature units; symmetric and >= 0 up to rounding.

    Every eigenvalue is taken of a symmetric matrix, so nothing turns complex and singular covariances
    (fewer images than features) need no jitter on the diagonal.

    Raises ValueError where the numbers of features differ.
    """
    if a.n_features != reference.n_features:
        raise ValueError(f"Gaussians of {a.n_features} and {reference.n_features} features have no distance")
    squared = np.linalg.eigvalsh(reference.root @ a.sigma @ reference.root)
    return _distance(a.mu, float(np.trace(a.sigma)), squared, reference)


def frechet_distance_of(features: NDArray[np.floating], reference: GaussianStatistics) -> float:
    """`frechet_distance` of features (N, D), without their covariance (D, D) where images are fewer than features.

    S_a is then X'X / (N - 1) of the centred features X, so that S_b^1/2 S_a S_b^1/2 has the eigenvalues of the (N, N)
    matrix X S_b X' / (N - 1), and zeros: N^2 D + N^3 operations instead of D^3.

    Raises ValueError for fewer than 2 images, features that are not finite, and another number of features.
    """
    n, n_features = features.shape
    if n > n_features or n < 2 or n_features != reference.n_features:
        return frechet_distance(GaussianStatistics.from_features(features), reference)
    require_finite(features)
    mu = features.astype(np.float64).mean(axis=0)
    scaled = (features - mu) / np.sqrt(n - 1)
    rooted = scaled @ reference.root
    return _distance(mu, float((scaled**2).sum()), np.linalg.eigvalsh(rooted @ rooted.T), reference)


def _distance(
    mu: NDArray[np.float64], trace: float, squared: NDArray[np.floating], reference: GaussianStatistics
) -> float:
    """Of a Gaussian of mean mu and that trace of its covariance; squared: eigenvalues of S_b^1/2 S_a S_b^1/2."""
    # Rounding moves an eigenvalue of 0 by about D eps times the largest, which a root would make far too much of.
    rounding = reference.n_features * np.finfo(np.float64).eps * abs(squared).max()
    trace_of_root = np.sqrt(np.where(squared > rounding, squared, 0)).sum()
    mean_term = ((mu - reference.mu) ** 2).sum()
    return float(mean_term + trace + np.trace(reference.sigma) - 2 * trace_of_root)
