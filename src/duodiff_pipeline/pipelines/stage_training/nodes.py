"""Training a backbone only where it will serve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...config import Backbone, HardwareSettings, Noise, Training
from ...errors import InputError
from ...images.examples import Examples
from ...networks.files import StoredNetwork
from ..training.nodes import train_backbone


def train_for_stage(
    backbone: Backbone,
    train: Examples,
    training: Training,
    noise: Noise,
    hardware: HardwareSettings,
    seed: int,
    work_folder: Path,
    name: str,
    suggested: Sequence[Mapping[str, Any]] = (),
    teacher: StoredNetwork | None = None,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """As `train_backbone`; suggested: the switches of the loss gap, which may say where the stage ends."""
    assert backbone.stage is not None
    try:
        lowest = backbone.stage.lowest(suggested)
    except InputError as error:
        raise InputError(f"backbones.{name}.stage: {error}") from error
    return train_backbone(backbone, train, training, noise, hardware, seed, work_folder, name, lowest, teacher)
