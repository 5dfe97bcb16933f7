"""The optimal denoiser of a finite training set (Zhang et al., CVPR 2024, arXiv 2312.09181, section 3).

Symbols: y_i (d,) the N training images, x_n = s_n y + r_n eps with s_n = sqrt(abar_n) and r_n = sqrt(1 - abar_n)
(the paper's s_t and s_t sigma_t in variance-preserving form), B queries.

    w_i           softmax_i( -|x - s_n y_i|^2 / (2 r_n^2) )
    E[y | x, n]   sum_i w_i y_i
    eps*_n(x)     (x - s_n E[y | x, n]) / r_n

Images are scaled to [-1, 1], as networks are trained on them. (The paper's scripts leave them in [0, 1], which halves
the signal: edges found there are not those of the training.)
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..diffusion.noise import NoiseSchedule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OptimalDenoiser:
    """The denoiser that no network trained on `images` can beat there: it knows them all.

    images: (N, d) float64 in [-1, 1].
    chunk_images: training images held against the queries at a time; bounds memory to B * chunk_images floats.

    Raises ValueError for images of another shape, type or range.
    """

    images: Floats
    noise: NoiseSchedule
    chunk_images: int = 4096

    def __post_init__(self) -> None:
        if self.images.ndim != 2 or self.images.dtype != np.float64 or not self.images.size:
            raise ValueError(f"images must be (N, d) float64, not {self.images.shape} {self.images.dtype}")
        # written so that it also refuses NaN
        if not np.abs(self.images).max() <= 1:
            raise ValueError("images must be scaled to [-1, 1]")

    @cached_property
    def _half_squares(self) -> Floats:
        """(N,) |y_i|^2 / 2."""
        half: Floats = np.einsum("nd,nd->n", self.images, self.images) / 2
        return half

    def scales(self, timesteps: Ints) -> tuple[Floats, Floats]:
        """s_n and r_n, each (B, 1), of whole timesteps (B,)."""
        abar = self.noise.abar[timesteps][:, None]
        return np.sqrt(abar), np.sqrt(1 - abar)

    def posterior_mean(self, x_bd: Floats, timesteps: Ints) -> Floats:
        """E[y | x, n] of queries (B, d) at whole timesteps (B,), in one pass over the training set."""
        s, r = self.scales(timesteps)
        peak, total, weighted = np.full_like(s, -np.inf), np.zeros_like(s), np.zeros_like(x_bd)
        for start in range(0, len(self.images), self.chunk_images):
            chunk = slice(start, start + self.chunk_images)
            # |x|^2 is common to all weights of a query and left out
            logits = (s * (x_bd @ self.images[chunk].T) - s**2 * self._half_squares[chunk]) / r**2
            new_peak = np.maximum(peak, logits.max(axis=1, keepdims=True))
            weights, fade = np.exp(logits - new_peak), np.exp(peak - new_peak)
            total = total * fade + weights.sum(axis=1, keepdims=True)
            weighted = weighted * fade + weights @ self.images[chunk]
            peak = new_peak
        mean: Floats = weighted / total
        return mean

    def predict_eps(self, x_bd: Floats, timesteps: Ints) -> Floats:
        """eps*_n(x) of queries (B, d) at whole timesteps (B,)."""
        s, r = self.scales(timesteps)
        eps: Floats = (x_bd - s * self.posterior_mean(x_bd, timesteps)) / r
        return eps

    def predict_from(self, y_bd: Floats, eps_bd: Floats, timesteps: Ints) -> Floats:
        """eps*_n(x_n) where x_n is the image y with the noise eps, each (B, d), at whole timesteps (B,)."""
        s, r = self.scales(timesteps)
        return self.predict_eps(s * y_bd + r * eps_bd, timesteps)
