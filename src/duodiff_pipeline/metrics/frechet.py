"""The Fréchet distance between two Gaussians, and the Gaussian that stands for a set of images.

Of Inception features this distance is the FID (Heusel et al. 2017, arXiv 1706.08500, eq. 6):

    d(a, b) = |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr (S_a S_b)^1/2

Symbols: mu (D,) mean, S (D, D) covariance, D features. All of it is float64. The eigenvalues of S_a S_b are those of
F^T S_a F for any F with F F^T = S_b, such as its Cholesky factor, and of N images, S_a = X^T X with X (N, D), also
those of the Gram matrix (X F) (X F)^T, which is the smaller one where N < D. Both are symmetric: nothing turns complex,
and singular covariances (fewer images than features) need no jitter on the diagonal. The heavy products and
the eigenvalues are all SciPy's: threads of NumPy or PyTorch would still be spinning when the next library's start.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.linalg.blas
from numpy.typing import NDArray

from .blocks import ROWS, blocks, require_finite


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """Mean `mu` (D,) and covariance `sigma` (D, D) of the features of `n_images` images, float64.

    n_images: None of published statistics, which do not say.
    """

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    n_images: int | None

    @classmethod
    def from_features(cls, features: NDArray[np.floating]) -> "GaussianStatistics":
        """Of features (N, D), with the unbiased covariance: one pass of float64 sums about the mean of the first rows,
        16 D^2 bytes and a few blocks.

        Raises ValueError for fewer than 2 images and for features that are not finite.
        """
        n = _require_several(features)
        origin = features[:ROWS].mean(axis=0, dtype=np.float64)
        total, products = np.zeros_like(origin), np.zeros((len(origin), len(origin)))
        for _, block in blocks(features):
            block -= origin
            total += block.sum(axis=0)
            products += block.T @ block
        off = total / n
        return cls(origin + off, (products - n * np.outer(off, off)) / (n - 1), n)

    @property
    def n_features(self) -> int:
        return len(self.mu)

    def times_factor(self, x: NDArray[np.floating]) -> NDArray[np.floating]:
        """x F, of x (N, D) float64 and F (D, D) with F F^T = sigma.

        F is computed once, so a reference that is compared to often pays it once.
        """
        factor, triangular = self._factor
        if not triangular:
            return x @ factor
        # LAPACK's order of elements is that of the transposes, so nothing is copied
        product: NDArray[np.float64] = scipy.linalg.blas.dtrmm(1.0, factor.T, x.T, lower=0)
        return product.T

    @cached_property
    def _factor(self) -> tuple[NDArray[np.floating], bool]:
        """F, and whether it is lower triangular: Cholesky's, or where sigma is singular the scaled eigenvectors."""
        try:
            return np.linalg.cholesky(self.sigma), True
        except np.linalg.LinAlgError:
            eigenvalues, vectors = np.linalg.eigh(self.sigma)
            return vectors * np.sqrt(eigenvalues.clip(min=0)), False


def frechet_distance(a: GaussianStatistics, reference: GaussianStatistics) -> float:
    """Squared Fréchet distance of two Gaussians, in squared feature units; symmetric and >= 0 up to rounding.

    Raises ValueError where the numbers of features differ.
    """
    _require_same_features(a.n_features, reference)
    product = reference.times_factor(reference.times_factor(a.sigma).T)
    return _distance(a.mu, float(np.trace(a.sigma)), product, reference)


def distance_of_features(features: NDArray[np.floating], reference: GaussianStatistics) -> float:
    """`frechet_distance` of the Gaussian of features (N, D), by the Gram matrix (N, N) where N < D.

    Raises what `GaussianStatistics.from_features` and `frechet_distance` raise.
    """
    n, n_features = features.shape
    if n >= n_features:
        return frechet_distance(GaussianStatistics.from_features(features), reference)
    _require_same_features(n_features, reference)
    _require_several(features)
    mu = features.mean(axis=0, dtype=np.float64)
    x = features - mu
    gram = scipy.linalg.blas.dsyrk(1 / (n - 1), reference.times_factor(x).T, trans=1, lower=1)
    return _distance(mu, float(np.einsum("nd,nd->", x, x)) / (n - 1), gram, reference)


def _distance(
    mu: NDArray[np.float64], trace: float, product: NDArray[np.floating], reference: GaussianStatistics
) -> float:
    """Of the Gaussian of mean mu and covariance S to the reference.

    trace: tr S; product: a symmetric matrix, of which the lower triangle is read and overwritten, with the eigenvalues,
    but for zeros, of S times the reference's.
    """
    squared = scipy.linalg.eigvalsh(product, lower=True, overwrite_a=True, check_finite=False)
    # Rounding moves an eigenvalue of 0 by about D eps times the largest, which a root would make far too much of.
    rounding = reference.n_features * np.finfo(np.float64).eps * abs(squared).max()
    trace_of_root = np.sqrt(np.where(squared > rounding, squared, 0)).sum()
    mean_term = ((mu - reference.mu) ** 2).sum()
    return float(mean_term + trace + np.trace(reference.sigma) - 2 * trace_of_root)


def _require_several(features: NDArray[np.floating]) -> int:
    """The number of images; raises ValueError where they are too few or not finite."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 images, not {len(features)}")
    require_finite(features)
    return len(features)


def _require_same_features(n_features: int, reference: GaussianStatistics) -> None:
    if n_features != reference.n_features:
        raise ValueError(f"Gaussians of {n_features} and {reference.n_features} features have no distance")
