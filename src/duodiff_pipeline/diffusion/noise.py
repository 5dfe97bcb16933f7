"""The training noise schedule: how much noise every timestep carries.

Symbols (Ho et al. 2020, arXiv 2006.11239, eq. 4; `n` is the timestep, 0..T-1, T-1 is pure noise):

    beta_n                  variance added at timestep n
    abar_n                  prod_{m<=n} (1 - beta_m), the share of signal variance left
    x_n                     sqrt(abar_n) x_0 + sqrt(1 - abar_n) eps
    logSNR_n                log(abar_n / (1 - abar_n)), falls as n grows
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

NoiseKind = Literal["linear", "cosine"]


@dataclass(frozen=True)
class NoiseSchedule:
    """A discrete variance-preserving noise schedule of `timesteps` steps.

    `linear` runs beta from 1e-4 to 0.02 (Ho et al. 2020, section 4), rescaled by 1000/T for other T;
    `cosine` is Nichol & Dhariwal 2021 (arXiv 2102.09672, eq. 17) with beta capped at 0.999.

    Raises InputError where a linear schedule is so short that its last beta reaches 1.
    """

    kind: NoiseKind = "linear"
    timesteps: int = 1000

    def __post_init__(self) -> None:
        if self.kind == "linear" and self.timesteps <= 20:
            raise InputError(f"a linear noise schedule needs more than 20 timesteps, not {self.timesteps}")

    @cached_property
    def betas(self) -> NDArray[np.float64]:
        """(T,) float64."""
        if self.kind == "linear":
            scale = 1000 / self.timesteps
            return np.linspace(1e-4 * scale, 0.02 * scale, self.timesteps)
        u = np.arange(self.timesteps + 1) / self.timesteps
        abar = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - abar[1:] / abar[:-1], 0.999)

    @cached_property
    def abar(self) -> NDArray[np.float64]:
        """(T,) float64, strictly decreasing."""
        return np.cumprod(1 - self.betas, dtype=np.float64)

    @cached_property
    def log_snr(self) -> NDArray[np.float64]:
        """(T,) float64, strictly decreasing, in nats."""
        return np.log(self.abar) - np.log1p(-self.abar)

    def abar_at(self, timesteps: Tensor) -> Tensor:
        """abar (N,) float64, on the CPU, at timesteps (N,); between whole ones logSNR is interpolated."""
        log_snr = np.interp(timesteps.detach().cpu().numpy(), np.arange(self.timesteps), self.log_snr)
        return torch.from_numpy(log_snr).sigmoid()

    def timesteps_at(self, log_snr: NDArray[np.float64]) -> NDArray[np.float64]:
        """Timesteps (N,) of logSNRs (N,) in nats, fractions included: the inverse of `abar_at`, held at the ends."""
        return np.interp(-log_snr, -self.log_snr, np.arange(self.timesteps))

    def add_noise(self, x0_nchw: Tensor, eps_nchw: Tensor, timesteps: Tensor) -> Tensor:
        """x_n of (N, C, H, W) images, noise of the same shape and timesteps (N,)."""
        abar = self.abar_at(timesteps)[:, None, None, None]
        signal, noise = abar.sqrt().to(x0_nchw), (1 - abar).sqrt().to(x0_nchw)
        return signal * x0_nchw + noise * eps_nchw
