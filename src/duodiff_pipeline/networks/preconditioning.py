"""Between what a network's last layer puts out and the noise that `forward` returns.

Symbols: s = sqrt(abar) and r = sqrt(1 - abar) of the variance-preserving x_n = s x_0 + r eps; sigma = r / s, the noise
level of Karras et al. 2022 (arXiv 2206.00364), whose x is x_n / s; sigma_d = 0.5, their standard deviation of the data;
F the network's layers. Their table 1, column "Ours":

    c_skip = sigma_d^2 / (sigma^2 + sigma_d^2)          c_in = 1 / sqrt(sigma^2 + sigma_d^2)
    c_out = sigma sigma_d / sqrt(sigma^2 + sigma_d^2)   c_noise = ln(sigma) / 4
    x_0 is predicted as c_skip x + c_out F(c_in x; c_noise); loss weight 1 / c_out^2 on the squared error of x_0
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..diffusion.noise import NoiseSchedule

Predicts = Literal["noise", "image", "edm"]
SIGMA_DATA = 0.5


class Predicting(Protocol):
    """predicts: the noise, the clean image, or F; noise: the schedule that the network belongs to."""

    @property
    def predicts(self) -> Predicts: ...

    @property
    def noise(self) -> NoiseSchedule: ...


@dataclass(frozen=True)
class EDMCoefficients:
    """Of noise levels sigma, each of their shape and type."""

    skip: Tensor
    out: Tensor
    input: Tensor
    noise: Tensor

    @classmethod
    def at(cls, sigma: Tensor) -> "EDMCoefficients":
        variance = sigma**2 + SIGMA_DATA**2
        return cls(SIGMA_DATA**2 / variance, sigma * SIGMA_DATA / variance.sqrt(), 1 / variance.sqrt(), sigma.log() / 4)


def network_input(config: Predicting, x_nchw: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """What the layers see of images x at timesteps (N,): both as they are, or c_in x / s and c_noise."""
    if config.predicts != "edm":
        return x_nchw, timesteps
    abar, sigma = _levels(config, timesteps)
    edm = EDMCoefficients.at(sigma)
    return _images(edm.input / abar.sqrt(), x_nchw) * x_nchw, edm.noise.to(timesteps.device, torch.float32)


def output_to_noise(config: Predicting, output_nchw: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
    """What a last layer puts out to the noise in images x: eps = (x - s x_0) / r."""
    output_nchw = output_nchw.to(x_nchw.dtype)  # which is another where layers compute in half precision
    if config.predicts == "noise":
        return output_nchw
    abar, sigma = _levels(config, timesteps)
    signal, noise = abar.sqrt(), (1 - abar).sqrt()
    if config.predicts == "image":
        return (x_nchw - _images(signal, x_nchw) * output_nchw) / _images(noise, x_nchw)
    edm = EDMCoefficients.at(sigma)
    # s x_0 = c_skip x_n + s c_out F; 1 - c_skip is written out, for it is tiny near the data
    kept = sigma**2 / (sigma**2 + SIGMA_DATA**2) / noise
    return _images(kept, x_nchw) * x_nchw - _images(signal * edm.out / noise, x_nchw) * output_nchw


def edm_weight(noise: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """(N,) float64, on the CPU: 1 / c_out^2, for the squared error on the noise, which is that of x_0 over sigma^2."""
    sigma = ((1 - (abar := noise.abar_at(timesteps))) / abar).sqrt()
    return (sigma / EDMCoefficients.at(sigma).out) ** 2


def _levels(config: Predicting, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """abar and sigma (N,) float64, on the CPU."""
    abar = config.noise.abar_at(timesteps)
    return abar, ((1 - abar) / abar).sqrt()


def _images(values_n: Tensor, x_nchw: Tensor) -> Tensor:
    """(N, 1, 1, 1), in the type and on the device of images."""
    return values_n[:, None, None, None].to(x_nchw)
