"""Training batches as a pure function of (seed, step), so that a resumed run sees what an uninterrupted one sees."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..diffusion.random import keyed_generator
from ..images.examples import Examples

StageWeights = Literal["uniform", "stages"]


class Batch(NamedTuple):
    """x0 and eps: (N, C, H, W) float32; timesteps: (N,) int64; labels: (N,) int64, None for unconditional training."""

    x0: Tensor
    eps: Tensor
    timesteps: Tensor
    labels: Tensor | None = None


class StepBatches(Dataset[Batch]):
    """One item a training step: examples without replacement within an epoch, timesteps uniform over a range, noise.

    timesteps: [low, high); labels: (N,) of the examples, 0..null_label-1, a share label_dropout of which becomes
    null_label, drawn for every slot of every step.
    """

    def __init__(
        self,
        examples: Examples,
        timesteps: tuple[int, int],
        batch_images: int,
        steps: int,
        seed: int,
        flip: bool = False,
        labels: Tensor | None = None,
        label_dropout: float = 0.0,
        null_label: int = 0,
    ) -> None:
        self.examples = examples
        self.timesteps = timesteps
        self.batch_images = batch_images
        self.steps = steps
        self.seed = seed
        self.flip = flip
        self.labels, self.label_dropout, self.null_label = labels, label_dropout, null_label

    def __len__(self) -> int:
        return self.steps

    def range_of(self, step: int) -> tuple[int, int]:
        """[low, high) of the timesteps of a step."""
        return self.timesteps

    def __getitem__(self, step: int) -> Batch:
        slots = range(step * self.batch_images, (step + 1) * self.batch_images)
        n = len(self.examples)
        indices = torch.tensor(np.array([_order_of_epoch(self.seed, slot // n, n)[slot % n] for slot in slots]))
        rng = keyed_generator(self.seed, "training", step)
        timesteps = torch.from_numpy(rng.integers(*self.range_of(step), size=len(slots)))
        eps = torch.from_numpy(rng.standard_normal((len(slots), *self.examples.shape_chw), np.float32))
        mirrored = torch.from_numpy(rng.random(len(slots)) < 0.5) if self.flip else None
        x0 = self.examples.x0(indices, keyed_generator(self.seed, "examples", step), mirrored)
        return Batch(x0, eps, timesteps, None if self.labels is None else self._labels(self.labels[indices], step))

    def _labels(self, labels_n: Tensor, step: int) -> Tensor:
        rng = keyed_generator(self.seed, "label dropout", step)
        dropped = torch.from_numpy(rng.random(len(labels_n)) < self.label_dropout)
        return labels_n.masked_fill(dropped, self.null_label)


@lru_cache(maxsize=2)
def _order_of_epoch(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    return keyed_generator(seed, "order", epoch).permutation(images)


def stage_ranges(edges: Sequence[float], timesteps: int) -> list[tuple[int, int]]:
    """[low, high) of the whole timesteps of each stage, noise to data; low is not below high where there are none."""
    return [(low, high) for high, low in pairwise([timesteps, *map(math.ceil, edges), 0])]


class StageBatches(StepBatches):
    """The same, but all timesteps of a step lie in one stage, for a network of which one decoder learns at a time.

    edges: timesteps, descending, stages being ordered from noise to data. weights: how often each stage comes up.
    `uniform` as often as it has timesteps, so that over many steps timesteps are uniform as without stages; `stages`
    each as often as any other, as the paper's code does (arXiv 2312.09181), whatever it does to the timesteps.

    shares: of the steps that train each stage, in the long run. labels: as `StepBatches` takes them.

    Raises ValueError where a stage holds no whole timestep.
    """

    def __init__(
        self,
        examples: Examples,
        edges: Sequence[float],
        timesteps: int,
        weights: StageWeights,
        batch_images: int,
        steps: int,
        seed: int,
        flip: bool = False,
        **labels: Any,
    ) -> None:
        super().__init__(examples, (0, timesteps), batch_images, steps, seed, flip, **labels)
        self.ranges = stage_ranges(edges, timesteps)
        counts = np.array([high - low for low, high in self.ranges])
        if counts.min() < 1:
            raise ValueError(f"the edges {list(edges)} leave a stage without a timestep")
        if weights not in get_args(StageWeights):
            raise ValueError(f"weights are {get_args(StageWeights)}, not {weights!r}")
        self.shares = counts / timesteps if weights == "uniform" else np.full(len(counts), 1 / len(counts))
        self._upper = self.shares.cumsum()[:-1]

    def stage(self, step: int) -> int:
        """Which stage a step trains."""
        drawn = keyed_generator(self.seed, "stage", step).random()
        return int(np.searchsorted(self._upper, drawn, side="right"))

    def range_of(self, step: int) -> tuple[int, int]:
        return self.ranges[self.stage(step)]
