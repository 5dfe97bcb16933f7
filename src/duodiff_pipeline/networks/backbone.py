"""What a stored network offers to sampling and training: a backbone, or parts that are backbones each.

A part is named `<network>/<part>`, in schedules and plans as a network is.
"""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..diffusion.denoiser import Denoiser
from .preconditioning import Predicting


class Backbone(Denoiser, Protocol):
    """A `Denoiser` that also trains: it predicts the noise in images that stand at timesteps of their own.

    macs: multiply-accumulates of one evaluation of one image.
    """

    @property
    def config(self) -> Predicting: ...

    @property
    def macs(self) -> int: ...

    def __call__(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Any: ...


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
