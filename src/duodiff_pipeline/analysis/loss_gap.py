"""How much more a shallow network errs than a deep one, evaluation by evaluation, and the switch that suggests.

Symbols: N images, E evaluations of a solver, B bootstrap resamples, k = 0..E a number of evaluations served shallow.

    s_i, d_i    squared error on the noise, shallow and deep, at evaluation i, mean over pixels
    c_i         how much of the noise predicted there goes into the x that follows (`Solver.coefficients`)

    excess(k) = sum_{i<k} c_i^2 (s_i - d_i) / sum_i c_i^2 d_i

is what serving the first k evaluations with the shallow network adds to the squared error that the deep network makes
along the whole way. Nothing is sampled: the images are real ones, noised to every timestep of the solver. So errors
that later evaluations repair count in full, and so do those that a viewer would not see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import NoiseSchedule
from ..diffusion.random import image_noise
from .bootstrap import TAILS, percentile_interval, resampled_weights

Floats = NDArray[np.float64]


@torch.inference_mode()
def noise_errors(
    denoiser: Denoiser,
    x0_nchw: Tensor,
    timesteps: tuple[float, ...],
    noise: NoiseSchedule,
    seed: int,
    labels: Tensor | None = None,
) -> Floats:
    """(E, N) squared error on the noise in images x0 (N, C, H, W) at each timestep, mean over pixels.

    Every image keeps its noise at all timesteps and for all networks of one seed, so that differences are paired.
    labels: (N,) of the images, where the denoiser is class-conditional.
    """
    eps = image_noise(seed, range(len(x0_nchw)), x0_nchw.shape[1:], 0).to(x0_nchw)
    errors = []
    for n in timesteps:
        x_n = noise.add_noise(x0_nchw, eps, torch.full((len(x0_nchw),), n))
        errors.append((denoiser.predict(x_n, n, labels).eps - eps).square().mean(dim=(1, 2, 3)))
    return torch.stack(errors).cpu().double().numpy()


@dataclass(frozen=True, eq=False)
class LossGap:
    """excess, excess_low, excess_high: (E + 1,) of k = 0..E, with its 95 % interval over images.

    k: the last switch up to which the excess stays within the tolerance; [k_low, k_high] holds that of all images with
    95 % confidence.
    """

    excess: Floats
    excess_low: Floats
    excess_high: Floats
    k: int
    k_low: int
    k_high: int


def find_loss_gap(
    shallow_en: Floats,
    deep_en: Floats,
    coefficients_e: Floats,
    tolerance: float,
    seed: int,
    switches: Sequence[int] | None = None,
) -> LossGap:
    """The excess error of every k, and the last switch within the tolerance.

    shallow_en, deep_en: `noise_errors` of both networks, paired; switches: the k to choose from, rising from 0, or all.
    The intervals are those of a bootstrap over images.
    """
    images = shallow_en.shape[1]
    weights_bn = np.vstack([np.full(images, 1 / images), resampled_weights(images, seed, "loss gap")])
    excess_bk = _excess(weights_bn @ shallow_en.T, weights_bn @ deep_en.T, coefficients_e)
    ks = np.arange(excess_bk.shape[1]) if switches is None else np.array(switches)
    within = np.logical_and.accumulate(excess_bk[:, ks] <= tolerance, axis=1)
    found_b = ks[within.sum(axis=1) - 1]  # that of k = 0 is 0, and always within
    low, high = np.quantile(excess_bk[1:], TAILS, axis=0)
    k_low, k_high = map(int, percentile_interval(found_b[1:]))
    return LossGap(excess_bk[0], low, high, int(found_b[0]), k_low, k_high)


def _excess(shallow_be: Floats, deep_be: Floats, coefficients_e: Floats) -> Floats:
    """(B, E + 1) excess(k) of mean errors (B, E)."""
    gap = np.cumsum(coefficients_e**2 * (shallow_be - deep_be), axis=1)
    whole = (coefficients_e**2 * deep_be).sum(axis=1, keepdims=True)
    return np.hstack([np.zeros((len(gap), 1)), gap]) / whole
