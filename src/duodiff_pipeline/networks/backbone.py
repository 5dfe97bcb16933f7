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


class Conditional:
    """What an architecture says of labels.

    num_classes: label embeddings, 0 for an unconditional network; null_class: whether the last of them stands for no
    label.
    """

    num_classes: int
    null_class: bool

    @property
    def classes(self) -> int:
        """C: labels 0..C-1 are those of images; 0 for an unconditional network."""
        return self.num_classes - self.null_class

    @property
    def null_label(self) -> int | None:
        """The label that stands for none, which comes after those of images; None where nothing was trained for it."""
        return self.classes if self.null_class else None

    def require_a_class(self) -> None:
        """Raises InputError where there is a null class but no other."""
        if self.null_class and self.num_classes < 2:
            raise InputError(f"{self.num_classes} label embeddings are too few for a null class beside another")


class BackboneConfig(Predicting, Protocol):
    """What every architecture says."""

    @property
    def classes(self) -> int: ...

    @property
    def null_label(self) -> int | None: ...


class Backbone(nn.Module):
    """A network, or a part of one, that predicts noise at one cost for all images; keeps the `Denoiser` contract."""

    config: BackboneConfig

    @property
    def classes(self) -> int:
        """C: it takes labels 0..C-1, or none where C is 0."""
        return self.config.classes

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
