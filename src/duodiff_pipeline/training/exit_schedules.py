"""Fine-tuning a trained backbone for an exit schedule (ASE, Moon et al., ICML 2024, arXiv 2408.05927)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..diffusion.noise import NoiseSchedule
from ..networks.exit_schedule import ExitSchedule
from ..networks.transformer import TransformerBackbone
from .batches import Batch
from .modules import NoiseTraining
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


class ExitScheduleTraining(NoiseTraining):
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
        self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(optimisation.ema_decay))  # type: ignore[no-untyped-call]
        self.ema.n_averaged += 1  # what was loaded counts: else the first step's weights would take its place
        self.schedule = schedule
        self.time_weights = time_weights(weighting, schedule.depth_at(torch.arange(noise.timesteps)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x_n = self.noise.add_noise(batch.x0, batch.eps, batch.timesteps)
        eps = self.raw.forward_to(x_n, batch.timesteps, self.schedule.depth_at(batch.timesteps))
        squared = F.mse_loss(eps, batch.eps, reduction="none").mean(dim=(1, 2, 3))
        weight = self.weight(batch.timesteps) * self.time_weights.to(squared.device)[batch.timesteps]
        return (weight * squared).mean()
