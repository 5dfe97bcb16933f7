"""The contract that everything which predicts noise keeps: `Denoiser`."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What one evaluation of a batch of N images returned, and what it took.

    eps: (N, C, H, W), the predicted noise.
    exit_depth: (N,) int64, blocks executed for each image.
    macs: (N,) int64, multiply-accumulates really made for each image.
    stage: which stage of a schedule served the batch; 0 where there is only one.
    """

    eps: Tensor
    exit_depth: Tensor
    macs: Tensor
    stage: int = 0


class Denoiser(Protocol):
    """Predicts the noise in a batch that stands at one timestep.

    One that is class-conditional also has `classes`, C: see `classes_of`.
    """

    def predict(self, x: Tensor, timestep: float, labels: Tensor | None = None) -> Prediction:
        """Predict the noise in x.

        x: (N, C, H, W) in the network's dtype, all at the same `timestep` (0..T-1, fractions allowed).
        labels: (N,) int64, each 0..C-1, or None for an unconditional network.
        """
        ...


def classes_of(denoiser: object) -> int:
    """C, the number of classes whose labels it takes; 0 for an unconditional one, which need not say so."""
    return getattr(denoiser, "classes", 0)
