"""Training batches as a pure function of (seed, step), so that a resumed run sees what an uninterrupted one sees."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..diffusion.random import keyed_generator
from ..images.pixels import from_uint8


class Batch(NamedTuple):
    """x0 and eps: (N, C, H, W) float32; timesteps: (N,) int64; labels: (N,) int64, None for unconditional training."""

    x0: Tensor
    eps: Tensor
    timesteps: Tensor
    labels: Tensor | None = None


class StepBatches(Dataset[Batch]):
    """One item a training step: images without replacement within an epoch, timesteps uniform over a range, noise.

    timesteps: [low, high); labels: (N,) of the images, 0..null_label-1, a share label_dropout of which becomes
    null_label, drawn for every slot of every step.
    """

    def __init__(
        self,
        images_nchw: Tensor,
        timesteps: tuple[int, int],
        batch_images: int,
        steps: int,
        seed: int,
        flip: bool = False,
        labels: Tensor | None = None,
        label_dropout: float = 0.0,
        null_label: int = 0,
    ) -> None:
        self.x0 = from_uint8(images_nchw)
        self.timesteps = timesteps
        self.batch_images = batch_images
        self.steps = steps
        self.seed = seed
        self.flip = flip
        self.labels, self.label_dropout, self.null_label = labels, label_dropout, null_label
        self._order = lru_cache(maxsize=2)(self._order_of_epoch)

    def __len__(self) -> int:
        return self.steps

    def _order_of_epoch(self, epoch: int) -> NDArray[np.int64]:
        return keyed_generator(self.seed, "order", epoch).permutation(len(self.x0))

    def __getitem__(self, step: int) -> Batch:
        slots = range(step * self.batch_images, (step + 1) * self.batch_images)
        indices = [self._order(slot // len(self.x0))[slot % len(self.x0)] for slot in slots]
        rng = keyed_generator(self.seed, "training", step)
        images = torch.tensor(np.array(indices))
        x0 = self.x0[images]
        timesteps = torch.from_numpy(rng.integers(*self.timesteps, size=len(slots)))
        eps = torch.from_numpy(rng.standard_normal(x0.shape, np.float32))
        if self.flip:
            mirrored = torch.from_numpy(rng.random(len(slots)) < 0.5)[:, None, None, None]
            x0 = torch.where(mirrored, x0.flip(-1), x0)
        return Batch(x0, eps, timesteps, None if self.labels is None else self._labels(self.labels[images], step))

    def _labels(self, labels_n: Tensor, step: int) -> Tensor:
        rng = keyed_generator(self.seed, "label dropout", step)
        dropped = torch.from_numpy(rng.random(len(labels_n)) < self.label_dropout)
        return labels_n.masked_fill(dropped, self.null_label)
