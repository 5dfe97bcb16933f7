"""Fine-tuning a trained backbone for an exit schedule (ASE, Moon et al., ICML 2024, arXiv 2408.05927)."""

from functools import partial

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..diffusion.noise import NoiseSchedule
from ..networks.exit_schedule import ExitSchedule
from ..networks.transformer import TransformerBackbone
from .modules import NoisePrediction, Tensors
from .optimisation import Optimisation, TimeWeighting


def time_weights(weighting: TimeWeighting, depths: Tensor) -> Tensor:
    """lambda(n) at every timestep, (T,) float32 of mean 1; depths: S(n) at every timestep, (T,).

    uniform: 1. equal_depths: 1 / (K p(S(n))), where p(d) is the share of timesteps at depth d and K the number of
    depths: all depths weigh alike together, however few timesteps use one. ASE weighs timesteps unevenly too, but how
    was not published: its public code has only the uniform one.
    """
    if weighting == "uniform":
        return torch.ones(len(depths))
    _, which, counts = torch.unique(depths, return_inverse=True, return_counts=True)
    return (len(depths) / (len(counts) * counts))[which]


@torch.no_grad()
def _average_constantly(decay: float, averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
    torch._foreach_lerp_(averaged, current, 1 - decay)


class ExitScheduleTraining(NoisePrediction):
    """lambda(n) times the backbone's own weighted squared error on the noise, every image at the depth of its timestep.

    Blocks that an image does not use are not run for it. Time and position embeddings stay as they are. The average
    begins at the weights that were loaded, with a constant decay.
    """

    raw: TransformerBackbone

    def __init__(
        self,
        network: TransformerBackbone,
        schedule: ExitSchedule,
        weighting: TimeWeighting,
        noise: NoiseSchedule,
        optimisation: Optimisation,
    ) -> None:
        super().__init__(network, noise, optimisation)
        for parameter in network.embedding_parameters:
            parameter.requires_grad_(False)
        self.schedule = schedule
        self.time_weights = time_weights(weighting, schedule.depth_at(torch.arange(noise.timesteps)))

    def average(self) -> AveragedModel:
        average = AveragedModel(self.raw, multi_avg_fn=partial(_average_constantly, self.optimisation.ema_decay))
        average.n_averaged += 1  # what was loaded counts: else the first step's weights would take its place
        return average

    def weight(self, timesteps: Tensor) -> Tensor:
        return super().weight(timesteps) * self.time_weights.to(timesteps.device)[timesteps]

    def predicted(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None) -> Tensor:
        return self.raw.forward_to(x_nchw, timesteps, self.schedule.depth_at(timesteps), labels)
