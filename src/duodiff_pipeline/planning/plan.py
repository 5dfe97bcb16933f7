"""All that is told before a run, in one place."""

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from ..config import Parameters
from ..config.hardware import Device
from ..errors import InputError
from ..metrics.classifier import FeatureClassifier
from ..metrics.extractor import FeatureExtractor
from ..metrics.torchscript import TorchScriptExtractor
from ..networks.files import BYTES_PER_PARAMETER
from ..pipelines.measuring import STARTS_BYTES
from ..pipelines.metric_reference.nodes import DOWNLOADS, classifier_config
from ..pipelines.switch_search.plan_meter import FEATURES_BYTES
from .calibration import Calibration, calibrate
from .images import Found, KnownImages, known_images
from .memory import HELD, activation_bytes, weight_bytes
from .networks import Networks, PlannedTraining, planned_networks
from .parts import Part, parts_of
from .sampling import Tally

KEPT = HELD - 1  # of these numbers a checkpoint holds all but the gradient
COPIES = 2  # of what the work folder has, and the catalog


@dataclass(frozen=True)
class Plan:
    """parts: with the seconds that are left of each, None where they are not known; not_counted: pipelines without any,
    and what of the others is left out.

    images: None where not even their shape is known: then there are no networks either, and no parts.
    """

    experiment: str
    parameters: Parameters
    images: KnownImages | None
    networks: Networks
    parts: Sequence[tuple[Part, float | None]]
    not_counted: Sequence[str]
    calibration: Calibration | None
    device: Device
    missing: Sequence[str]
    assumed: Sequence[str]
    free_disk_bytes: int
    free_memory_bytes: int

    @property
    def to_train(self) -> list[PlannedTraining]:
        return [one for one in self.networks.trainings.values() if one.new is not None and not one.finished]

    def training_memory(self) -> tuple[PlannedTraining, int, int, int | None] | None:
        """The training that holds most: bytes of its weights, images at once in a process, bytes of what these keep."""
        assert self.images is not None
        shape, hardware = self.images.examples.shape_chw, self.parameters.hardware
        held = []
        for one in self.to_train:
            assert one.new is not None
            kept = activation_bytes(one.new.network, shape)
            at_once = math.ceil(one.batch_images / hardware.devices / hardware.gradient_accumulation)
            held.append((one, weight_bytes(one.new.network), at_once, None if kept is None else kept * at_once))
        return max(held, key=lambda found: found[1] + (found[3] or 0), default=None)

    def sampling_memory(self) -> tuple[int, int, int]:
        """Bytes of all networks at once, of the images of a block, and the most of states that plans share."""
        assert self.images is not None
        parameters = sum(one.stored.parameters for one in self.networks.trainings.values())
        block = (self.parameters.evaluation.images or self.images.n_held_out or 0) * math.prod(
            self.images.train.shape_chw
        )
        return BYTES_PER_PARAMETER * parameters, block, STARTS_BYTES

    def gradients_bytes(self) -> int:
        """What the gradient affinity of `timestep_clustering` holds: one of the deep network a timestep."""
        deep = self.networks.stored(self.parameters.everywhere[-1])
        return self.parameters.timestep_clustering.gradient_nodes * BYTES_PER_PARAMETER * deep.parameters

    def pack_bytes(self) -> int | None:
        """Of images, and of latents; of both splits, with what the work folder keeps of those that are decoded."""
        images, settings = self.images, self.parameters.data_preparation
        if images is None or images.n_train is None or images.n_held_out is None:
            return None
        kept = COPIES if settings.source in ("hub", "image_folder") else 1
        an_image = kept * math.prod(images.train.shape_chw) + 8
        if images.latents is not None:
            an_image += COPIES * BYTES_PER_PARAMETER * math.prod(images.latents.moments.shape[1:])
        return (images.n_train + images.n_held_out) * an_image

    def checkpoint_bytes(self) -> int:
        """One of every training, and the next of the largest while it is written."""
        each = [KEPT * BYTES_PER_PARAMETER * one.stored.parameters for one in self.to_train]
        return sum(each) + max(each, default=0)

    def network_bytes(self) -> int:
        """Of all files of networks that are still to be written."""
        bytes_of = {"float32": 4, "float16": 2}
        return sum(
            COPIES * (1 + len(one.kept)) * bytes_of[one.header.stored_as] * one.stored.parameters
            for one in self.to_train
        )

    def result_bytes(self) -> int:
        """Of sample grids and, at most, of features that the search keeps while it runs."""
        if self.images is None:
            return 0
        evaluation, plans = self.parameters.evaluation, sum(part.plans for part, _ in self.parts)
        grids = plans * len(evaluation.seeds) * evaluation.grid_images * math.prod(self.images.train.shape_chw)
        return grids + FEATURES_BYTES


@contextmanager
def _quiet() -> Iterator[None]:
    """What is asked and tried tells nothing of itself."""
    package = logging.getLogger(__name__.partition(".")[0])
    level = package.level
    package.setLevel(logging.WARNING)
    try:
        yield
    finally:
        package.setLevel(level)


@_quiet()
def make_plan(p: Parameters, experiment: str, project: Path, pipelines: Sequence[str], found: Found) -> Plan:
    """pipelines: of a run, by name; found: what an earlier run left under a name of the catalog, or None."""
    work_folder = project / "data" / ".work" / experiment
    images, device = known_images(p.data_preparation, work_folder, found), p.hardware.device
    disk, memory = shutil.disk_usage(project).free, _free_memory(device)
    if images is None:
        nothing = Networks({}, (), (), {})
        return Plan(experiment, p, None, nothing, (), pipelines, None, device, (), (), disk, memory)
    networks = planned_networks(p, images, work_folder, found)
    extractor, of_metrics = _metrics(p, images, work_folder)
    parts = parts_of(p, networks, images, extractor, found)
    calibration = calibrate(p, networks.trainings, images, extractor)
    return Plan(
        experiment,
        p,
        images,
        networks,
        [(part, _seconds(part, calibration, p.hardware.devices)) for part in parts],
        _not_counted(pipelines, parts, calibration),
        calibration,
        device,
        (*_hardware(p), *images.missing, *networks.missing, *of_metrics),
        (*images.assumed, *networks.assumed),
        disk,
        memory,
    )


def _not_counted(pipelines: Sequence[str], parts: Sequence[Part], calibration: Calibration) -> list[str]:
    whole = [name for name in pipelines if name not in {part.pipeline for part in parts}]
    features = [] if calibration.feature_seconds is not None else ["features, whose extractor is not here"]
    return [*whole, *features, "metrics of features", "files read and written"]


def _hardware(p: Parameters) -> list[str]:
    """What this machine lacks."""
    try:
        p.hardware.require_present()
    except InputError as error:
        return [str(error)]
    return []


def _metrics(p: Parameters, images: KnownImages, work_folder: Path) -> tuple[FeatureExtractor | None, list[str]]:
    """The extractor, or one like it, where it is here; and what the metrics lack."""
    settings, missing = p.metric_reference, list[str]()
    if settings.reference.endswith(".npz") and not Path(settings.reference).is_file():
        missing.append(f"metric_reference.reference: there is no file {settings.reference}")
    wanted = settings.extractor
    if wanted is None:
        return FeatureClassifier(classifier_config(images.train, settings)), missing
    try:
        if wanted.path is not None:
            return TorchScriptExtractor.open(Path(wanted.path), wanted.sha256), missing
        assert wanted.url is not None
        path = TorchScriptExtractor.downloaded(wanted.url, wanted.sha256, work_folder.parents[1] / DOWNLOADS)
        if path.is_file():
            return TorchScriptExtractor.open(path, wanted.sha256), missing
        missing.append(
            f"metric_reference.extractor: a run downloads {wanted.url}; without a network, save it as {path}"
        )
    except InputError as error:
        missing.append(f"metric_reference.extractor: {error}")
    return None, missing


def _seconds(part: Part, calibration: Calibration, devices: int) -> float | None:
    """That are left of it, shared evenly among the devices where it is shared at all."""
    if not part.known or part.finished:
        return None if not part.known else 0.0
    seconds = 0.0
    if part.training is not None:
        seconds += part.steps_left * calibration.steps[part.training.name].seconds / devices
    if part.tally is not None:
        if not part.tally.calls and calibration.feature_seconds is None:
            return None
        seconds += _tally_seconds(part.tally, calibration, devices)
    return seconds


def _tally_seconds(tally: Tally, calibration: Calibration, devices: int) -> float:
    networks = sum(count * calibration.speeds[call.network].seconds(call) for call, count in tally.calls.items())
    features = tally.judged_images * (calibration.feature_seconds or 0.0)
    decoding = min(tally.drawn_images, tally.judged_images) * calibration.decoding_seconds
    return networks / (devices if tally.drawn_images else 1) + decoding + features


def _free_memory(device: Device) -> int:
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    available: int = psutil.virtual_memory().available
    return available
