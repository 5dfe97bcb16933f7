"""What a stored network offers to sampling: it is a backbone, or has parts that are backbones each, or both.

A part is named "<network>/<part>", in schedules and plans as a network is.
"""

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Prediction
from ..errors import InputError
from .preconditioning import Predicting


class Backbone(nn.Module):
    """A network, or a part of one, that predicts noise at one cost for all images; keeps the `Denoiser` contract."""

    config: Predicting

    @property
    @abstractmethod
    def depth(self) -> int:
        """Blocks executed."""

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiply-accumulates of one evaluation of one image."""

    def predict(self, x: Tensor, timestep: float, labels: Tensor | None = None) -> Prediction:
        """See `Denoiser.predict`."""
        n = len(x)
        eps = self(x, torch.full((n,), timestep, device=x.device), labels)
        return Prediction(eps, torch.full((n,), self.depth), torch.full((n,), self.macs))


@runtime_checkable
class HasParts(Protocol):
    """A network of which each part predicts by itself."""

    def part(self, name: str) -> Backbone:
        """Raises InputError, listing the parts, where there is none of that name."""
        ...


def network_of(name: str) -> str:
    """The network that a name in a schedule belongs to: itself, or that of its part."""
    return name.partition("/")[0]


def part_of(name: str) -> str | None:
    """The part that a name in a schedule means, if any."""
    return name.partition("/")[2] or None


def require_labels(labels: Tensor | None, num_classes: int) -> None:
    """Raises InputError where a network without classes gets labels, or one with classes gets none."""
    if (labels is None) != (num_classes == 0):
        raise InputError(f"this network has {num_classes} classes: labels are needed exactly where it has any")
