"""Early exits from the deep network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import EarlyExit, HardwareSettings, Training
from ...diffusion.random import keyed_torch_generator
from ...images.examples import Examples
from ...networks.early_exit import EarlyExits
from ...networks.files import NetworkHeader, StoredNetwork, exit_kind
from ...networks.shared_exits import SharedExits
from ...networks.transformer import TransformerBackbone
from ..trained import Untrained, train_once

if TYPE_CHECKING:
    from ...training.modules import NoiseTraining


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
    new = untrained_exits(network, train, settings, training, hardware, seed)
    return train_once("early_exits", new.begun(), new.header, train, training, hardware, seed, new.inputs, work_folder)


def untrained_exits(
    network: StoredNetwork,
    train: Examples,
    settings: EarlyExit,
    training: Training,
    hardware: HardwareSettings,
    seed: int,
) -> Untrained:
    """What `train_early_exits` trains."""
    frozen = network.module
    assert isinstance(frozen, TransformerBackbone)
    noise, optimisation = frozen.config.noise, training.optimisation(settings.steps)
    exits = (EarlyExits if settings.variant == "duodiff" else SharedExits)(frozen.config, settings.probe)

    def fill() -> None:
        exits.init_weights(frozen, keyed_torch_generator(seed, "weights of early exits"))

    def trained() -> "NoiseTraining":
        from ...training.modules import EarlyExitTraining, SharedExitTraining

        if isinstance(exits, EarlyExits):
            return EarlyExitTraining(exits, frozen, noise, optimisation)
        return SharedExitTraining(exits, noise, optimisation)

    # the frozen blocks only run forward
    only_forward = frozen.macs_before_blocks[-2] if isinstance(exits, EarlyExits) else 0
    header = NetworkHeader(
        kind=exit_kind(settings.variant, settings.probe, network.header.kind),
        architecture=network.header.architecture,
        timestep_range=network.header.timestep_range,
        training={**training.model_dump(mode="json"), "seed": seed, "hardware": hardware.model_dump()},
        step=settings.steps,
        weights="ema",
        data_sha256=train.sha256,
        backbone_sha256=network.sha256,
        step_macs=only_forward + 3 * exits.macs,
        stored_as=training.stored_as,
    )
    return Untrained(exits, header, fill, trained, {"backbone": network.sha256})
