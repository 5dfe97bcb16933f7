"""What is trained: the noise prediction of a backbone, early exits of a frozen one, and exits together with theirs."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..diffusion.noise import NoiseSchedule
from ..diffusion.stages import StageSchedule
from ..networks.early_exit import EarlyExits, early_exit_loss, tokens_before_blocks
from ..networks.preconditioning import edm_weight
from ..networks.shared_exits import SharedExits, shared_exit_loss_of_means, shared_exit_means
from ..networks.transformer import TransformerBackbone
from ..networks.unet import UNet
from .averaging import OwnUpdatesAverage
from .batches import Batch
from .optimisation import Optimisation
from .ranks import average_gradients, mean_over_ranks
from .shares import share_of

Tensors = tuple[Tensor, ...] | list[Tensor]


def warmed_up_ema(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential averaging with decay min(decay, (1 + i) / (10 + i)) after i updates: early weights are forgotten."""
    return partial(_average_warmed_up, decay)


@torch.no_grad()
def _average_warmed_up(decay: float, averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
    i = float(updates)
    torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + i) / (10 + i)))


class NoiseTraining(lightning.LightningModule):
    """A module with an exponential moving average of its weights, which checkpoints hold beside the raw ones.

    The loss is a function of means over the images of a step, their sum or what `loss_of_means` says. So its gradients
    can be added up piece by piece, and averaged over the processes, whatever the function: they are those of all images
    at once, up to rounding.

    frozen: a network that training asks and leaves as it is. pieces: in which a process works through its share of
    every batch, one after the other.
    """

    pieces = 1
    sums = True  # whether that is so

    def __init__(
        self, module: nn.Module, noise: NoiseSchedule, optimisation: Optimisation, frozen: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.frozen: list[Any] = [frozen] if frozen else []  # in a list, so that it is neither trained nor stored
        self.raw = module
        self.noise = noise
        self.optimisation = optimisation
        self.ema = self.average()

    def average(self) -> AveragedModel | OwnUpdatesAverage:
        """Made once, of the weights that training begins with."""
        return AveragedModel(self.raw, multi_avg_fn=warmed_up_ema(self.optimisation.ema_decay))

    def on_fit_start(self) -> None:
        for network in self.frozen:
            network.to(self.device)

    def configure_optimizers(self) -> Any:
        o = self.optimisation
        fused = self.trainer.precision == "32-true"  # what a fused step unscales, Lightning does not clip
        optimiser = torch.optim.AdamW(
            self.raw.parameters(), o.learning_rate, o.adam_betas, weight_decay=o.weight_decay, fused=fused
        )
        warmup = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / max(1, o.warmup_steps), total_iters=o.warmup_steps)
        rate: torch.optim.lr_scheduler.LRScheduler = warmup
        if o.rate_schedule == "cosine":
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, o.steps - o.warmup_steps)
            rate = torch.optim.lr_scheduler.SequentialLR(optimiser, [warmup, cosine], [o.warmup_steps])
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    @abstractmethod
    def means(self, batch: Batch) -> Tensor:
        """What the loss is made of, (K,): each a mean over the images of a batch."""

    def loss_of_means(self, means_k: Tensor) -> Tensor:
        return means_k.sum()

    def loss(self, batch: Batch) -> Tensor:
        """Of all images of a batch at once."""
        return self.loss_of_means(self.means(batch))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss over the pieces of all processes, whose gradients are there when it returns."""
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        pieces = [share_of(batch, i, self.pieces) for i in range(self.pieces)]
        slopes_k, total_k = None, torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, enabled=False):  # which is for networks, not for their gradients
            if len(pieces) > 1 and not self.sums:  # of one piece, the slopes come with its gradients
                with torch.no_grad():
                    slopes_k = self._slopes(torch.stack([self._means(piece) for piece in pieces]).mean(dim=0))
            for piece in pieces:
                means_k = self._means(piece)
                if slopes_k is None:
                    slopes_k = self._slopes(means_k.detach())
                self.trainer.strategy.backward((slopes_k * means_k).sum() / len(pieces), None)
                total_k = total_k + means_k.detach() / len(pieces)
            average_gradients(self.raw.parameters())
            return self.loss_of_means(mean_over_ranks(total_k)).requires_grad_()

    def _means(self, batch: Batch) -> Tensor:
        with self.trainer.precision_plugin.forward_context():
            return self.means(batch).float()

    def _slopes(self, means_k: Tensor) -> Tensor:
        """(K,) of the loss, at the means over all processes."""
        if self.sums:
            return torch.ones_like(means_k)
        means_k = mean_over_ranks(means_k).requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.loss_of_means(means_k), means_k)[0]

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Done before the gradients were made: Lightning would do it between `training_step` and its own backward."""

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.ema.update_parameters(self.raw)

    def weight(self, timesteps: Tensor) -> Tensor:
        """(N,) float32 weight of the squared error on the noise at timesteps (N,).

        1 (Ho et al. 2020, arXiv 2006.11239, eq. 14), or min(SNR, gamma) / SNR (Hang et al. 2023, arXiv 2303.09556).
        With EDM's preconditioning that of its paper, which weighs all errors of the layers themselves alike.
        """
        if self.raw.config.predicts == "edm":  # type: ignore[union-attr]
            return edm_weight(self.noise, timesteps).float().to(timesteps.device)
        gamma = self.optimisation.min_snr_gamma
        if gamma is None:
            return torch.ones(len(timesteps), device=timesteps.device)
        abar = self.noise.abar_at(timesteps)
        return (gamma * (1 - abar) / abar).clamp(max=1).float().to(timesteps.device)


class NoisePrediction(NoiseTraining):
    """Mean squared error on the noise, or, with a teacher, on the noise that it predicts; timesteps uniform."""

    def __init__(
        self, network: nn.Module, noise: NoiseSchedule, optimisation: Optimisation, teacher: nn.Module | None = None
    ) -> None:
        super().__init__(network, noise, optimisation, frozen=teacher)

    def predicted(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None) -> Tensor:
        """What the network that is trained makes of the noise in images x."""
        return self.raw(x_nchw, timesteps, labels)

    def means(self, batch: Batch) -> Tensor:
        x_n = self.noise.add_noise(batch.x0, batch.eps, batch.timesteps)
        with torch.no_grad():
            wanted = self.frozen[0](x_n, batch.timesteps, batch.labels) if self.frozen else batch.eps
        eps = self.predicted(x_n, batch.timesteps, batch.labels)
        squared = F.mse_loss(eps, wanted, reduction="none").mean(dim=(1, 2, 3))
        return (self.weight(batch.timesteps) * squared).mean(dim=0, keepdim=True)


class StageNoisePrediction(NoisePrediction):
    """The same for a network with a decoder a stage: every batch lies in one stage, whose decoder alone runs.

    The others have no gradients then, not ones of 0: AdamW neither decays them nor moves them on by momentum.

    edges: between the stages, see `StageBatches`.
    """

    raw: UNet

    def __init__(self, network: UNet, edges: Sequence[float], noise: NoiseSchedule, optimisation: Optimisation) -> None:
        super().__init__(network, noise, optimisation)
        stages = tuple(str(stage) for stage in range(len(edges) + 1))
        self.schedule = StageSchedule(tuple(edges), stages, noise)

    def average(self) -> OwnUpdatesAverage:
        return OwnUpdatesAverage(self.raw, self.optimisation.ema_decay)

    def predicted(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None) -> Tensor:
        return self.raw.stages[self.schedule.stage(float(timesteps[0]))](x_nchw, timesteps, labels)


class EarlyExitTraining(NoiseTraining):
    """Heads and probes of a network that stays as it is; see `early_exit_loss`."""

    raw: EarlyExits

    def __init__(
        self, exits: EarlyExits, network: TransformerBackbone, noise: NoiseSchedule, optimisation: Optimisation
    ) -> None:
        super().__init__(exits, noise, optimisation, frozen=network)

    def means(self, batch: Batch) -> Tensor:
        x_n = self.noise.add_noise(batch.x0, batch.eps, batch.timesteps)
        with torch.no_grad():
            tokens = tokens_before_blocks(self.frozen[0], x_n, batch.timesteps, batch.labels)
        eps, u = self.raw(tokens, x_n, batch.timesteps)
        return torch.stack(list(early_exit_loss(eps, u, batch.eps, self.weight(batch.timesteps)).values()))


class SharedExitTraining(NoiseTraining):
    """A network and the probes of its blocks; see `shared_exit_loss`."""

    raw: SharedExits
    sums = False

    def means(self, batch: Batch) -> Tensor:
        x_n = self.noise.add_noise(batch.x0, batch.eps, batch.timesteps)
        eps, confidence = self.raw(x_n, batch.timesteps, batch.labels)
        mse_l, confidence_l, probes = shared_exit_means(eps, confidence, batch.eps, self.weight(batch.timesteps))
        return torch.cat([mse_l, confidence_l, probes[None]])

    def loss_of_means(self, means_k: Tensor) -> Tensor:
        layers = len(means_k) // 2
        parts = shared_exit_loss_of_means(means_k[:layers], means_k[layers:-1], means_k[-1])
        return torch.stack(list(parts.values())).sum()
