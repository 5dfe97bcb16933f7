"""The optimal denoiser of a finite training set (Zhang et al., CVPR 2024, arXiv 2312.09181, section 3).

Symbols: y_i (d,) the N training images, x_n = s_n y + r_n eps with s_n = sqrt(abar_n) and r_n = sqrt(1 - abar_n)
(the paper's s_t and s_t sigma_t in variance-preserving form), B queries.

    w_i           softmax_i( -|x - s_n y_i|^2 / (2 r_n^2) )
    E[y | x, n]   sum_i w_i y_i
    eps*_n(x)     (x - s_n E[y | x, n]) / r_n

Images lie in [-1, 1] (`centred`), as networks are trained on them, or in [0, 1] (`unit`), as the paper's scripts leave
them, which halves the signal: edges found there are not those of the training. Latents (`latent`) lie where they lie.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..diffusion.noise import NoiseSchedule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DataRange = Literal["centred", "unit", "latent"]


@dataclass(frozen=True, eq=False)
class OptimalDenoiser:
    """The denoiser that no network trained on `images` can beat there: it knows them all.

    images: (N, d), uint8 pixels, which are scaled to the data range, or floats within it.
    chunk_images: training images held against the queries at a time; bounds memory to B * chunk_images floats beside
    the images as they are and one chunk of them in float64.

    Raises ValueError for images of another shape, type or range.
    """

    images: NDArray[np.uint8] | NDArray[np.float32] | Floats
    noise: NoiseSchedule
    chunk_images: int = 4096
    data_range: DataRange = "centred"

    def __post_init__(self) -> None:
        if self.images.ndim != 2 or self.images.dtype not in (np.uint8, np.float32, np.float64) or not self.images.size:
            raise ValueError(
                f"images must be (N, d) uint8, float32 or float64, not {self.images.shape} {self.images.dtype}"
            )
        bound = np.inf if self.data_range == "latent" else 1
        low = 0 if self.data_range == "unit" else -bound
        # written so that it also refuses NaN
        if self.images.dtype != np.uint8 and not (self.images.min() >= low and self.images.max() <= bound):
            raise ValueError(f"images must be scaled to [{low}, 1]")

    def scaled(self, images: NDArray[np.uint8] | NDArray[np.float32] | Floats) -> Floats:
        """Images as they are stored to float64 in the data range."""
        if images.dtype != np.uint8:
            return images.astype(np.float64, copy=False)
        levels = images.astype(np.float64)
        scaled: Floats = levels / 127.5 - 1 if self.data_range == "centred" else levels / 255
        return scaled

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
            y = self.scaled(self.images[chunk])
            # |x|^2 is common to all weights of a query and left out
            logits = (s * (x_bd @ y.T) - s**2 * np.einsum("nd,nd->n", y, y) / 2) / r**2
            new_peak = np.maximum(peak, logits.max(axis=1, keepdims=True))
            weights, fade = np.exp(logits - new_peak), np.exp(peak - new_peak)
            total = total * fade + weights.sum(axis=1, keepdims=True)
            weighted = weighted * fade + weights @ y
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
