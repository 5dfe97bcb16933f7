"""Training one backbone."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...config import Backbone, HardwareSettings, Noise, Training
from ...diffusion.noise import NoiseSchedule
from ...diffusion.random import keyed_torch_generator
from ...errors import InputError
from ...images.examples import Examples
from ...networks.files import KINDS, NetworkHeader, StoredNetwork
from ...networks.official import Checkpoint
from ...networks.transformer import TransformerBackbone
from ..trained import Untrained, sample_grid, train_once, training_gmacs

if TYPE_CHECKING:
    from ...training.modules import NoiseTraining

logger = logging.getLogger(__name__)


def take_backbone(
    backbone: Backbone, train: Examples, name: str
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """The network in the backbone's file, and what its header tells of its training: no losses, and no seconds.

    Raises InputError where the file holds no backbone, one of another shape than is said beside it, or of other images.
    """
    path = Path(backbone.file or "").expanduser()
    stored = StoredNetwork.load(path)
    if not isinstance(stored.module, TransformerBackbone):
        raise InputError(f"backbones.{name}.file: {path} holds {stored.header.kind}, no backbone")
    if stored.header.data_sha256 not in (train.sha256, None):  # nobody knows what foreign checkpoints learnt
        raise InputError(f"backbones.{name}.file: {path} was trained on other images than the run prepares")
    found = {**stored.header.architecture, "kind": stored.header.kind}
    for key in ("kind", "patch", "width", "depth", "heads"):
        if found[key] != (wanted := getattr(backbone, key)):
            raise InputError(f"backbones.{name}.{key} is {wanted}, but the network in {path} has {found[key]}")
    return stored, {"losses": [], "training_gmacs": training_gmacs(stored)}, {"seconds": None}


def take_checkpoint(
    backbone: Backbone, train: Examples, noise: Noise, name: str
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """The network in the backbone's foreign checkpoint, as `take_backbone` gives one; it counts for all timesteps.

    Raises InputError where the file holds another architecture than the backbone's, or one for other images.
    """
    taken = backbone.from_checkpoint
    assert taken is not None
    where, schedule, classes = f"backbones.{name}.from_checkpoint", noise.schedule(), train.classes
    try:
        checkpoint = Checkpoint.read(Path(taken.path).expanduser(), taken.sha256)
        null_class = checkpoint.num_classes == classes + 1
        network = checkpoint.network(backbone.heads, taken.timestep_scale, taken.predicts, schedule, null_class)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    found, (channels, size, _) = network.config, train.shape_chw
    wanted = {"image_size": size, "channels": channels, "patch": backbone.patch, "width": backbone.width}
    wanted |= {"depth": backbone.depth, "classes": classes if found.num_classes else 0}
    others = [
        f"{key} {getattr(found, key)}, not {value}" for key, value in wanted.items() if getattr(found, key) != value
    ]
    if others:
        raise InputError(f"{where}: {checkpoint.path} is not what images and parameters say: {'; '.join(others)}")
    logger.info(
        "%s is %s, taken as trained on %s noise of %d timesteps; on which images nobody knows",
        name,
        checkpoint.path.name,
        schedule.kind,
        schedule.timesteps,
    )
    origin = {"file": checkpoint.path.name, "sha256": checkpoint.sha256}
    header = NetworkHeader(
        kind="uvit",
        architecture=asdict(found),
        timestep_range=(0, schedule.timesteps),
        training={"from_checkpoint": origin, "batch_images": taken.batch_images},
        step=taken.steps,
        weights=checkpoint.weights,
        data_sha256=None,
    )
    stored = StoredNetwork(network, header)
    return stored, {"losses": [], "training_gmacs": training_gmacs(stored)}, {"seconds": None}


def train_backbone(
    backbone: Backbone,
    train: Examples,
    training: Training,
    noise: Noise,
    hardware: HardwareSettings,
    seed: int,
    work_folder: Path,
    name: str,
    lowest: int = 0,
    teacher: StoredNetwork | None = None,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """The averaged network, its loss curve, and the seconds it took; lowest, teacher: see `untrained_backbone`."""
    new = untrained_backbone(backbone, train, training, noise, hardware, seed, name, lowest, teacher)
    return train_once(
        name,
        new.begun(),
        new.header,
        train,
        training,
        hardware,
        seed,
        inputs=new.inputs,
        work_folder=work_folder,
        draw=None if lowest else partial(_draw, noise.schedule(), train, seed),  # of a stage, it draws nothing alone
    )


def untrained_backbone(
    backbone: Backbone,
    train: Examples,
    training: Training,
    noise: Noise,
    hardware: HardwareSettings,
    seed: int,
    name: str,
    lowest: int = 0,
    teacher: StoredNetwork | None = None,
) -> Untrained:
    """What `train_backbone` trains.

    lowest: the first timestep that it learns; teacher: whose predictions it learns instead of the noise.
    """
    channels, size, _ = train.shape_chw
    schedule = noise.schedule()
    conditioning = training.conditioning(train.classes)
    try:
        config = backbone.architecture(size, channels, predicts=training.predicts, noise=schedule, **conditioning)
    except InputError as error:
        raise InputError(f"backbones.{name}: {error}") from error
    network = KINDS[backbone.kind](config)
    assert isinstance(network, TransformerBackbone)
    taught: dict[str, Any] = {}
    if teacher is not None:
        assert isinstance(teacher.module, TransformerBackbone)
        taught = {"teacher_sha256": teacher.sha256, "step_macs": 3 * network.macs + teacher.module.macs}

    def fill() -> None:
        network.init_weights(keyed_torch_generator(seed, f"weights of {name}"))

    def trained() -> "NoiseTraining":
        from ...training.modules import NoisePrediction

        optimisation = training.optimisation(backbone.steps)
        return NoisePrediction(network, schedule, optimisation, teacher.module if teacher else None)

    header = NetworkHeader(
        kind=backbone.kind,
        architecture=asdict(config),
        timestep_range=(lowest, schedule.timesteps),
        training={**training.model_dump(mode="json"), "seed": seed, "hardware": hardware.model_dump()},
        step=backbone.steps,
        weights="ema",
        data_sha256=train.sha256,
        stored_as=training.stored_as,
        **taught,
    )
    return Untrained(network, header, fill, trained, {"teacher": teacher.sha256} if teacher else {})


def _draw(schedule: NoiseSchedule, train: Examples, seed: int, averaged: nn.Module) -> Tensor:
    assert isinstance(averaged, TransformerBackbone)
    return sample_grid(averaged, schedule, train, seed, next(averaged.parameters()).device)
