"""All that is told before a run, in one place."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from ..config import Parameters
from ..errors import InputError
from ..metrics.classifier import FeatureClassifier
from ..metrics.extractor import FeatureExtractor
from ..metrics.torchscript import TorchScriptExtractor
from ..networks.files import BYTES_PER_PARAMETER
from ..pipelines.measuring import STARTS_BYTES, Device, sampling_device
from ..pipelines.metric_reference.nodes import DOWNLOADS, classifier_config
from ..pipelines.switch_search.plan_meter import FEATURES_BYTES
from .calibration import Calibration, calibrate
from .images import Found, KnownImages, known_images
from .memory import HELD, activation_bytes, weight_bytes
from .networks import Networks, PlannedTraining, planned_networks
from .parts import Part, parts_of
from .sampling import Tally

KEPT = HELD - 1  # of these numbers a checkpoint holds all but the gradient
COPIES = 2  # of a network's file: in the work folder, and in the catalog


@dataclass(frozen=True)
class Plan:
    """parts: with the seconds that are left of each, None where they are not known; not_counted: pipelines without any.

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

    def training_memory(self) -> tuple[PlannedTraining, int, int | None] | None:
        """The training that holds most: bytes of its weights, and of what all images of a step keep."""
        assert self.images is not None
        shape = self.images.train.shape_chw
        held = []
        for one in self.to_train:
            assert one.new is not None
            kept = activation_bytes(one.new.network, shape)
            held.append((one, weight_bytes(one.new.network), None if kept is None else kept * one.batch_images))
        return max(held, key=lambda found: found[1] + (found[2] or 0), default=None)

    def sampling_memory(self) -> tuple[int, int]:
        """Bytes of all networks at once, and the most that states which plans share take."""
        parameters = sum(one.stored.parameters for one in self.networks.trainings.values())
        return BYTES_PER_PARAMETER * parameters, STARTS_BYTES

    def pack_bytes(self) -> int | None:
        """Of both packs."""
        images = self.images
        if images is None or images.n_train is None or images.n_held_out is None:
            return None
        return (images.n_train + images.n_held_out) * (images.train.images[0].numel() + 8)

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
        p = self.parameters
        plans = sum(part.tally.drawn_images > 0 for part, _ in self.parts if part.tally)
        grids = plans * len(p.evaluation.seeds) * p.evaluation.grid_images * self.images.train.images[0].numel()
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
    images, device = known_images(p.data_preparation, work_folder, found), sampling_device(p.hardware)
    disk, memory = shutil.disk_usage(project).free, _free_memory(device)
    if images is None:
        nothing = Networks({}, (), (), {})
        return Plan(experiment, p, None, nothing, (), pipelines, None, device, (), (), disk, memory)
    networks = planned_networks(p, images, work_folder, found)
    extractor, of_metrics = _metrics(p, images, work_folder)
    parts = parts_of(p, networks, images, found)
    calibration = calibrate(p, networks.trainings, images, extractor, device)
    return Plan(
        experiment,
        p,
        images,
        networks,
        [(part, _seconds(part, calibration)) for part in parts],
        [name for name in pipelines if name not in {part.pipeline for part in parts}],
        calibration,
        device,
        (*images.missing, *networks.missing, *of_metrics),
        (*images.assumed, *networks.assumed),
        disk,
        memory,
    )


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


def _seconds(part: Part, calibration: Calibration) -> float | None:
    """That are left of it."""
    if (training := part.training) is not None:
        left = training.steps - training.done_steps
        return left * calibration.steps[training.name].seconds if left else 0.0
    if part.tally is None or (part.tally.drawn_images and calibration.feature_seconds is None):
        return None
    return _sampling_seconds(part.tally, calibration)


def _sampling_seconds(tally: Tally, calibration: Calibration) -> float:
    networks = sum(count * calibration.speeds[call.network].seconds(call) for call, count in tally.calls.items())
    return networks + tally.drawn_images * (calibration.feature_seconds or 0.0)


def _free_memory(device: Device) -> int:
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    available: int = psutil.virtual_memory().available
    return available
