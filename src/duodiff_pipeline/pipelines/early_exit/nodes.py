"""Early exits on the frozen deep network."""

from pathlib import Path
from typing import Any

from ...config import EarlyExit, HardwareSettings, Noise, Training
from ...diffusion.random import keyed_torch_generator
from ...images.pack import ImagePack
from ...networks.early_exit import EarlyExits
from ...networks.files import NetworkHeader, StoredNetwork
from ...networks.uvit import UViT
from ..trained import train_once


def train_early_exits(
    network: StoredNetwork,
    train: ImagePack,
    settings: EarlyExit,
    training: Training,
    noise: Noise,
    hardware: HardwareSettings,
    seed: int,
    work_folder: Path,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """Heads and probes, their loss curve, and the seconds they took."""
    from ...training.modules import EarlyExitTraining

    frozen = network.module
    assert isinstance(frozen, UViT)
    exits = EarlyExits(frozen.config)
    exits.init_weights(frozen, keyed_torch_generator(seed, "weights of early exits"))
    return train_once(
        name="early_exits",
        make=lambda optimisation: EarlyExitTraining(exits, frozen, noise.schedule(), optimisation),
        header=lambda stamp: NetworkHeader(
            "early_exits", network.header.architecture, network.header.timestep_range, weights="ema", backbone_sha256=network.sha256, **stamp
        ),
        train=train,
        training=training,
        steps=settings.steps,
        macs_per_image=frozen.macs + 3 * exits.macs,  # the frozen network only runs forward
        noise=noise,
        hardware=hardware,
        seed=seed,
        inputs={"backbone": network.sha256},
        work_folder=work_folder,
    )
