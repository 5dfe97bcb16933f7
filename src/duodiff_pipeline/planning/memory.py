"""Bytes that a training holds, counted on shapes alone."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.backbone import Backbone
from ..networks.files import BYTES_PER_PARAMETER
from ..networks.transformer import TransformerBackbone
from ..networks.unet import UNet

HELD = 5  # numbers for every weight: itself, its gradient, AdamW's two averages, and the averaged weight


def weight_bytes(network: nn.Module) -> int:
    """Of a training: weights, and what belongs to each of them."""
    return HELD * BYTES_PER_PARAMETER * sum(weights.numel() for weights in network.parameters())


def activation_bytes(network: nn.Module, shape_chw: tuple[int, int, int]) -> int | None:
    """What one image keeps for the gradients, in float32, the dearest stage counting; None where it is not counted: of
    early exits, which stand on another network.
    """
    with torch.device("meta"):
        match network:
            case TransformerBackbone():
                backbones: tuple[Backbone, ...] = (type(network)(replace(network.config, predicts="noise")),)
            case UNet():
                backbones = UNet(replace(network.config, predicts="noise")).stages
            case _:
                return None
        return max(_kept_bytes(backbone, shape_chw) for backbone in backbones)


def _kept_bytes(network: Backbone, shape_chw: tuple[int, int, int]) -> int:
    """What autograd keeps of one image's way through a network on the meta device, its weights excepted."""
    own = {weights.untyped_storage()._cdata for weights in network.parameters()}
    kept: dict[int, Any] = {}  # the storages themselves, so that none takes the place of another

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    labels = torch.zeros(1, dtype=torch.long) if network.classes else None
    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        network(torch.empty(1, *shape_chw), torch.empty(1), labels)
    return sum(storage.nbytes() for storage in kept.values())
