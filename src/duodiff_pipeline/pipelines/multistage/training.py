"""Training the U-Nets of the comparison, each for as many multiply-accumulates as the first one."""

from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...analysis.clustering import Edges, log_snr_cluster_edges, similarity_edges, uniform_timestep_edges
from ...analysis.denoiser_similarity import DenoiserDifferences
from ...config import HardwareSettings, Multistage, Noise, TimestepClustering, Training
from ...diffusion.noise import NoiseSchedule
from ...diffusion.random import keyed_torch_generator
from ...diffusion.stages import StageSchedule
from ...errors import InputError
from ...images.examples import Examples
from ...networks.files import NetworkHeader
from ...networks.staged import StagedDenoiser
from ...networks.unet import UNet, UNetConfig
from ..optimal_denoiser.nodes import require_drawn_on
from ..trained import Untrained, sample_grid, train_and_keep, training_labels

if TYPE_CHECKING:
    from ...training.batches import StageBatches
    from ...training.modules import NoiseTraining


def choose_edges(
    differences: DenoiserDifferences,
    settings: Multistage,
    clustering: TimestepClustering,
    train: Examples,
    noise: Noise,
) -> dict[str, list[float]]:
    """The edges of every network, noise to data, but of one whose edges are to be searched.

    Raises InputError where eta and alpha leave no three stages, or draws are not those that the clustering asks for.
    """
    schedule = noise.schedule()
    require_drawn_on(differences, train, schedule, clustering.data_range, clustering.images)

    def edges_of(name: str) -> Edges:
        edges = edges_beforehand(settings, name, schedule)
        if edges is None:
            found = similarity_edges(differences, settings.eta, settings.alpha)
            if not found.edges:
                raise InputError(f"multistage.networks.{name}.edges: {found.message}: choose another eta or alpha")
            return found.edges
        return edges

    return {name: list(edges_of(name)) for name in settings.networks if name != settings.searched}


def edges_beforehand(settings: Multistage, name: str, schedule: NoiseSchedule) -> Edges | None:
    """The edges of a network, noise to data; None where the images' optimal denoisers or a search tell them."""
    network = settings.networks[name]
    stages = len(network.decoder_widths)
    match network.edges:
        case None:
            return ()
        case "uniform":
            return uniform_timestep_edges(schedule, stages)
        case "snr":
            return log_snr_cluster_edges(schedule, stages)
        case "optimal_denoiser" | "searched":
            return None
        case edges:
            return edges


def train_stages(
    edges: dict[str, list[float]],
    train: Examples,
    settings: Multistage,
    training: Training,
    noise: Noise,
    hardware: HardwareSettings,
    work_folder: Path,
    name: str,
    seed: int,
    until: int | None = None,
) -> tuple[Any, ...]:
    """The averaged network at every checkpoint and at the end, its loss curve, and the seconds it took.

    The curve also says of each of these networks: its step, and the multiply-accumulates spent up to it.
    until: the number of the checkpoint to stop at, for now; the network there is the last one returned then.
    """
    schedule, own_edges = noise.schedule(), tuple(edges[name])
    new, batches, kept = untrained_stages(edges, train, settings, training, noise, hardware, name, seed)
    steps, config = new.header.step, new.network.config
    assert isinstance(config, UNetConfig)
    spent = np.cumsum([3 * _stage_macs(config)[batches.stage(step)] for step in range(steps)])
    networks, curve, seconds = train_and_keep(
        f"{name}_{seed}",
        new.begun(),
        replace(new.header, step_macs=float(spent[-1]) / steps),
        train,
        batches,
        training,
        hardware,
        inputs=new.inputs,
        work_folder=work_folder,
        keep_at_steps=kept,
        draw=partial(_draw, own_edges, schedule, train, seed),
        until=None if until is None else kept[until],
    )
    gmacs = {step: float(spent[step - 1]) * training.batch_images / 1e9 for step in (*kept, steps)}
    curve["checkpoints"] = [{"step": step, "training_gmacs": value} for step, value in gmacs.items()]
    return (*networks, curve, seconds)


def untrained_stages(
    edges: dict[str, list[float]],
    train: Examples,
    settings: Multistage,
    training: Training,
    noise: Noise,
    hardware: HardwareSettings,
    name: str,
    seed: int,
) -> "tuple[Untrained, StageBatches, list[int]]":
    """What `train_stages` trains, whose header has the expected cost of a step; its batches, and the steps before the
    last at which it is kept.
    """
    from ...training.batches import StageBatches

    channels, size, _ = train.shape_chw
    schedule, own_edges = noise.schedule(), tuple(edges[name])
    conditioning = training.conditioning(train.classes)
    config = settings.architecture(name, size, channels, training.predicts, schedule, **conditioning)

    def batches_of(which: str, steps: int) -> StageBatches:
        arguments = (schedule.timesteps, settings.timesteps, training.batch_images, steps, seed, training.flip)
        return StageBatches(train, edges[which], *arguments, **training_labels(train, training))

    first = next(iter(settings.networks))
    first_config = settings.architecture(first, size, channels, training.predicts, schedule, **conditioning)
    cost = {which: _mean_macs(c, batches_of(which, 1).shares) for which, c in ((first, first_config), (name, config))}
    steps = max(1, round(settings.steps * cost[first] / cost[name]))
    kept = [round(share * steps) for share in settings.checkpoints]
    if not min(kept, default=1) > 0 or len({*kept, steps}) <= len(kept):
        raise InputError(f"multistage.checkpoints: {name} has only {steps} steps, too few to tell them apart")

    network = UNet(config)

    def fill() -> None:
        network.init_weights(keyed_torch_generator(seed, "weights of stages"))  # encoders alike begin alike

    def trained() -> "NoiseTraining":
        from ...training.modules import StageNoisePrediction

        return StageNoisePrediction(network, own_edges, schedule, training.optimisation(steps))

    of_stages = {"timesteps": settings.timesteps, "seed": seed, "hardware": hardware.model_dump()}
    header = NetworkHeader(
        kind="unet",
        architecture=asdict(config),
        timestep_range=(0, schedule.timesteps),
        training={**training.model_dump(mode="json"), **of_stages},
        step=steps,
        weights="ema",
        data_sha256=train.sha256,
        step_macs=3 * cost[name],
        stored_as=training.stored_as,
        stage_edges=own_edges,
    )
    return Untrained(network, header, fill, trained), batches_of(name, steps), kept


@cache
def _stage_macs(config: UNetConfig) -> tuple[int, ...]:
    """Of one evaluation of one image by each stage."""
    with torch.device("meta"):
        return tuple(stage.macs for stage in UNet(config).stages)


def _mean_macs(config: UNetConfig, shares: np.ndarray[Any, Any]) -> float:
    return float(np.dot(shares, _stage_macs(config)))


def _draw(edges: Edges, schedule: NoiseSchedule, train: Examples, seed: int, averaged: nn.Module) -> Tensor:
    """A grid of samples of averaged weights."""
    assert isinstance(averaged, UNet)
    staged = StageSchedule.of_parts("network", edges, schedule)
    denoiser = StagedDenoiser(staged, dict(zip(staged.serves, averaged.stages, strict=True)))
    return sample_grid(denoiser, schedule, train, seed, next(averaged.parameters()).device)
