"""How an untrained network of each stored kind is made from its architecture."""

from collections.abc import Callable
from typing import Any

from torch import nn

from ..diffusion.noise import NoiseSchedule
from ..networks.early_exit import EarlyExits
from ..networks.uvit import UViT, UViTConfig


def _config(architecture: dict[str, Any]) -> UViTConfig:
    return UViTConfig(**{**architecture, "noise": NoiseSchedule(**architecture["noise"])})


BUILDERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "uvit": lambda architecture: UViT(_config(architecture)),
    "early_exits": lambda architecture: EarlyExits(_config(architecture)),
}
