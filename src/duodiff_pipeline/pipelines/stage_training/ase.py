"""ASE: a trained backbone fine-tuned for an exit schedule."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...analysis.exit_statistics import depths_by_bin
from ...config import Ase, HardwareSettings, Training
from ...images.examples import Examples
from ...networks.exit_schedule import BINS, ExitSchedule
from ...networks.files import KINDS, NetworkHeader, StoredNetwork
from ...networks.transformer import TransformerBackbone
from ...networks.uvit import UViTConfig
from ..trained import Untrained, train_once

if TYPE_CHECKING:
    from ...training.modules import NoiseTraining

logger = logging.getLogger(__name__)


def fine_tune(
    network: StoredNetwork,
    train: Examples,
    settings: Ase,
    training: Training,
    hardware: HardwareSettings,
    seed: int,
    work_folder: Path,
    exit_table: pd.DataFrame | None = None,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """The averaged network, whose file names its exit schedule, its loss curve, and the seconds it took.

    exit_table: of early exits from the network, where the schedule follows them.
    """
    new = untrained_ase(network, train, settings, training, hardware, seed, exit_table)
    return train_once(
        "ase", new.begun(), new.header, train, training, hardware, seed, inputs=new.inputs, work_folder=work_folder
    )


def untrained_ase(
    network: StoredNetwork,
    train: Examples,
    settings: Ase,
    training: Training,
    hardware: HardwareSettings,
    seed: int,
    exit_table: pd.DataFrame | None = None,
) -> Untrained:
    """What `fine_tune` trains."""
    backbone = network.module
    assert isinstance(backbone, TransformerBackbone)
    config, noise = backbone.config, backbone.config.noise
    if isinstance(config, UViTConfig):
        config = replace(config, dropped_first=settings.dropped_first)
    tuned = KINDS[network.header.kind](config).requires_grad_(True)
    assert isinstance(tuned, TransformerBackbone)
    schedule = exit_schedule(settings, tuned, exit_table)
    logger.info("blocks of %d that run, data to noise: %s", tuned.depth, ", ".join(map(str, schedule.depths)))
    training = training.model_copy(update=settings.model_dump(include={"learning_rate", "ema_decay"}))
    macs = sum(tuned.macs_at(depth) for depth in schedule.depths) / len(schedule.depths)

    def fill() -> None:
        tuned.load_state_dict(backbone.state_dict())

    def trained() -> "NoiseTraining":
        from ...training.exit_schedules import ExitScheduleTraining

        return ExitScheduleTraining(tuned, schedule, settings.weighting, noise, training.optimisation(settings.steps))

    own = settings.model_dump(mode="json", include={"schedule", "depths", "threshold", "dropped_first", "weighting"})
    header = NetworkHeader(
        kind=network.header.kind,
        architecture=asdict(config),
        timestep_range=network.header.timestep_range,
        training={**training.model_dump(mode="json"), "ase": own, "seed": seed, "hardware": hardware.model_dump()},
        step=settings.steps,
        weights="ema",
        data_sha256=train.sha256,
        backbone_sha256=network.sha256,
        step_macs=3 * macs,  # one pass forward, and backward twice that, of the blocks that run
        stored_as=training.stored_as,
        exit_schedule=schedule.to_dict(),
    )
    return Untrained(tuned, header, fill, trained, {"backbone": network.sha256})


def exit_schedule(settings: Ase, network: TransformerBackbone, exit_table: pd.DataFrame | None = None) -> ExitSchedule:
    """The one that the settings name, for a network; exit_table: of early exits from it, where they say."""
    noise = network.config.noise
    if settings.depths is not None:
        schedule = ExitSchedule(settings.depths, noise)
        schedule.require_fits(network.exit_depths)
        return schedule
    if settings.threshold is not None:
        assert exit_table is not None
        depths = depths_by_bin(exit_table, settings.threshold, min(BINS, noise.timesteps), noise.timesteps)
        return ExitSchedule.from_relative([depth / network.depth for depth in depths], network.exit_depths, noise)
    return ExitSchedule.named(settings.schedule, network.exit_depths, noise)  # type: ignore[arg-type]
