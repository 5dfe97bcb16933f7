"""Early exits from the deep network."""

from pathlib import Path
from typing import Any

from ...config import EarlyExit, HardwareSettings, Training
from ...diffusion.random import keyed_torch_generator
from ...images.examples import Examples
from ...networks.early_exit import EarlyExits
from ...networks.files import EXIT_KINDS, NetworkHeader, StoredNetwork
from ...networks.shared_exits import SharedExits
from ...networks.uvit import UViT
from ..trained import train_once


def train_early_exits(
    network: StoredNetwork,
    train: Examples,
    settings: EarlyExit,
    training: Training,
    hardware: HardwareSettings,
    seed: int,
    work_folder: Path,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """Heads and probes, or probes with their fine-tuned network, their loss curve, and the seconds they took."""
    from ...training.modules import EarlyExitTraining, NoiseTraining, SharedExitTraining

    frozen = network.module
    assert isinstance(frozen, UViT)
    noise, optimisation = frozen.config.noise, training.optimisation(settings.steps)
    exits = (EarlyExits if settings.variant == "duodiff" else SharedExits)(frozen.config, settings.probe)
    exits.init_weights(frozen, keyed_torch_generator(seed, "weights of early exits"))
    module: NoiseTraining
    if isinstance(exits, EarlyExits):
        module = EarlyExitTraining(exits, frozen, noise, optimisation)
        step_macs = frozen.macs_before_blocks[-2] + 3 * exits.macs  # the frozen blocks only run forward
    else:
        module, step_macs = SharedExitTraining(exits, noise, optimisation), 3 * exits.macs
    return train_once(
        "early_exits",
        module,
        NetworkHeader(
            kind=EXIT_KINDS[settings.variant, settings.probe],
            architecture=network.header.architecture,
            timestep_range=network.header.timestep_range,
            training={**training.model_dump(mode="json"), "seed": seed, "hardware": hardware.model_dump()},
            step=settings.steps,
            weights="ema",
            data_sha256=train.sha256,
            backbone_sha256=network.sha256,
            step_macs=step_macs,
            stored_as=training.stored_as,
        ),
        train,
        training,
        hardware,
        seed,
        inputs={"backbone": network.sha256},
        work_folder=work_folder,
    )
