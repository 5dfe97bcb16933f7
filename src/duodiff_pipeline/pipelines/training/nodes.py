"""Training one backbone."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...config import Backbone, HardwareSettings, Noise, Training
from ...diffusion.random import keyed_torch_generator
from ...diffusion.sampling import sample
from ...diffusion.solvers import Solver
from ...errors import InputError
from ...images.pack import ImagePack
from ...images.pixels import to_uint8
from ...networks.files import NetworkHeader, StoredNetwork
from ...networks.uvit import UViT
from ..trained import train_once


def train_backbone(
    backbone: Backbone,
    train: ImagePack,
    training: Training,
    noise: Noise,
    hardware: HardwareSettings,
    seed: int,
    work_folder: Path,
    name: str,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """The averaged network, its loss curve, and the seconds it took."""
    from ...training.modules import NoisePrediction

    channels, size, _ = train.shape_chw
    schedule = noise.schedule()
    try:
        config = backbone.architecture(size, channels, predicts=training.predicts, noise=schedule)
    except InputError as error:
        raise InputError(f"backbones.{name}: {error}") from error
    network = UViT(config)
    network.init_weights(keyed_torch_generator(seed, f"weights of {name}"))

    def draw(averaged: nn.Module) -> Tensor:
        assert isinstance(averaged, UViT)
        device = next(averaged.parameters()).device
        grid = sample(
            averaged,
            Solver("ddim", min(20, schedule.timesteps)),
            schedule,
            train.shape_chw,
            range(20),
            seed,
            20,
            device,
        )
        return to_uint8(grid.images)

    return train_once(
        name,
        NoisePrediction(network, schedule, training.optimisation(backbone.steps)),
        NetworkHeader(
            kind="uvit",
            architecture=asdict(config),
            timestep_range=(0, schedule.timesteps),
            training={**training.model_dump(mode="json"), "seed": seed, "hardware": hardware.model_dump()},
            step=backbone.steps,
            weights="ema",
            data_sha256=train.sha256,
            stored_as=training.stored_as,
        ),
        train,
        training,
        hardware,
        seed,
        macs_per_image=3 * network.macs,  # one pass forward, and backward twice that
        inputs={},
        work_folder=work_folder,
        draw=draw,
    )
