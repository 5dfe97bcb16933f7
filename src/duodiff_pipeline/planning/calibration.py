"""Seconds on this device, from a few evaluations and a few training steps of every network.

Weights do not matter for that, so they are all the same number; images are random.
"""

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch
from torch import Tensor, nn

from ..config import HardwareSettings, Parameters
from ..diffusion.sampling import sample
from ..diffusion.solvers import Solver
from ..metrics.extractor import FeatureExtractor, extract_features
from ..metrics.measure import FEATURE_BATCH_IMAGES
from ..networks.backbone import Backbone
from ..networks.files import StoredNetwork
from ..networks.unet import UNet
from ..pipelines.measuring import Device
from ..pipelines.trained import training_labels
from ..training.batches import StageBatches, StepBatches
from ..training.fit import Hardware, fit
from ..training.modules import NoiseTraining
from .images import KnownImages
from .memory import activation_bytes, weight_bytes
from .networks import PlannedTraining
from .sampling import Call

SECONDS = 12.0  # of all measurements together, about
MOST_RUNS, MOST_STEPS = 9, 30
GROWTH = 8  # of a batch, from one to the next that is tried
OF_MEMORY = 0.5  # of what is free, that a measurement may take
WEIGHT = 0.01
BACK_AND_FORTH = 3  # a training step, in evaluations


@dataclass(frozen=True)
class Speed:
    """Of a network: seconds of a call by itself, and of a multiply-accumulate; measured at 1 and at `images`."""

    a_call: float
    a_mac: float
    images: int

    def seconds(self, call: Call) -> float:
        return self.a_call + self.a_mac * call.macs * call.images


@dataclass(frozen=True)
class StepSpeed:
    """Seconds of a training step, measured at so many images; 0 images: not measured, but taken from evaluations."""

    seconds: float
    images: int


@dataclass(frozen=True)
class Calibration:
    """By name of the network; feature_seconds: of an image's features, None where the extractor is not here.

    seconds: that all of it took.
    """

    speeds: Mapping[str, Speed]
    steps: Mapping[str, StepSpeed]
    feature_seconds: float | None
    seconds: float


def calibrate(
    p: Parameters,
    trainings: Mapping[str, PlannedTraining],
    images: KnownImages,
    extractor: FeatureExtractor | None,
    device: Device,
) -> Calibration:
    """Trainings that are alike but for their seed or stage are measured once."""
    started = time.perf_counter()
    alike = {name: _shape_of(one) for name, one in trainings.items()}
    first = {shape: name for name, shape in reversed(alike.items())}
    share = SECONDS / (2 * len(first) + 1)
    speeds, steps = dict[tuple[object, ...], Speed](), dict[tuple[object, ...], StepSpeed]()
    for shape, name in first.items():
        if backbone := _backbone(trainings[name].stored):
            speeds[shape] = _speed(backbone, p, images, device, share)
    of_exits = speeds[alike[p.early_exit.backbone]]
    for shape, name in first.items():
        if trainings[name].new and not trainings[name].finished:
            steps[shape] = _step(trainings[name], p, images, speeds.get(shape, of_exits), share)
    features = None if extractor is None else _feature_seconds(extractor, images, device, share)
    return Calibration(
        {name: speeds[shape] for name, shape in alike.items() if shape in speeds},
        {name: steps[shape] for name, shape in alike.items() if shape in steps},
        features,
        time.perf_counter() - started,
    )


def _shape_of(training: PlannedTraining) -> tuple[object, ...]:
    header = training.header
    return header.kind, str(header.architecture), header.step_macs, training.new is None, training.finished


def _backbone(stored: StoredNetwork) -> Backbone | None:
    """What is evaluated alone: of several decoders the dearest; None of early exits."""
    network = stored.module
    if isinstance(network, UNet):
        return max(network.stages, key=lambda stage: stage.macs)
    return network if isinstance(network, Backbone) else None


def _with_weights(module: nn.Module, device: Device | str) -> nn.Module:
    """A copy on the device, whose weights are all one number."""
    with torch.no_grad():
        module = copy.deepcopy(module).to("meta").to_empty(device=device)
        for weights in module.parameters():
            weights.fill_(WEIGHT)
        for buffer in module.buffers():
            buffer.fill_(1)
    return module


def _speed(backbone: Backbone, p: Parameters, images: KnownImages, device: Device, share: float) -> Speed:
    network = _with_weights(backbone, device).eval().requires_grad_(False)
    assert isinstance(network, Backbone)
    solver, noise, shape = Solver("ddim", 2), p.noise.schedule(), images.train.shape_chw

    def an_evaluation(count: int) -> float:
        trace = sample(network, solver, noise, shape, range(count), 0, count, device).trace
        return float(trace.seconds.mean())

    an_evaluation(1)  # what happens only once is not timed
    one = _median(lambda: an_evaluation(1), share / 4)
    most, count, many = p.sampling.micro_batch_images, 1, one
    while count < most and GROWTH * many < share / 4:  # a batch takes no longer than its images one by one
        count = min(GROWTH * count, most)
        many = an_evaluation(count)
    if count == 1:
        return Speed(0.0, one / backbone.macs, 1)
    many = _median(lambda: an_evaluation(count), share / 3)
    a_mac = max(many - one, many * (count - 1) / count / 10) / (count - 1) / backbone.macs
    return Speed(max(0.0, one - a_mac * backbone.macs), a_mac, count)


def _step(
    training: PlannedTraining,
    p: Parameters,
    images: KnownImages,
    speed: Speed,
    share: float,
) -> StepSpeed:
    assert training.new is not None
    shape, batch, step_macs = (
        images.train.shape_chw,
        training.batch_images,
        training.gmacs * 1e9 / training.steps / training.batch_images,
    )

    def expected(count: int) -> float:
        return BACK_AND_FORTH * speed.a_call + speed.a_mac * step_macs * count

    count = batch
    while count > 1 and 3 * expected(count) > share:
        count //= 2
    held = weight_bytes(training.new.network) + count * (activation_bytes(training.new.network, shape) or 0)
    if held > OF_MEMORY * psutil.virtual_memory().available:
        return StepSpeed(expected(batch), 0)
    with warnings.catch_warnings(action="ignore"):  # weights of a finished network are not copied to the meta device
        module = training.new.begun()
    module.frozen = [_with_weights(frozen, "cpu").eval() for frozen in module.frozen]
    trained = _with_weights(module, "cpu")
    assert isinstance(trained, NoiseTraining)
    steps = 1 + min(MOST_STEPS, max(2, int(share / 2 / expected(count))))
    batches, clock = _batches(training, p, images, count, steps), _Clock()
    with TemporaryDirectory() as folder:
        fit(trained, batches, _one_device(p.hardware), Path(folder), steps + 1, clock, 1)
    done_macs = [_step_macs(training, batches, step) for step in range(1, steps)]
    ratios = [seconds / macs for seconds, macs in zip(clock.between, done_macs, strict=True)]
    return StepSpeed(statistics.median(ratios) * step_macs * batch / count, count)


def _batches(training: PlannedTraining, p: Parameters, images: KnownImages, count: int, steps: int) -> StepBatches:
    """As those of the training, but of fewer random images."""
    pixels = torch.randint(256, (count, *images.train.shape_chw), dtype=torch.uint8)
    more = training_labels(images.train, p.training)
    if "labels" in more:
        more["labels"] = more["labels"].expand(count)
    flip, noise = p.training.flip, p.noise.schedule()
    if training.batches is not None:
        edges, weights = training.header.stage_edges, p.multistage.timesteps if p.multistage else "uniform"
        return StageBatches(pixels, edges, noise.timesteps, weights, count, steps, 0, flip, **more)
    low, high = map(int, training.header.timestep_range)
    return StepBatches(pixels, (low, high), count, steps, 0, flip, **more)


def _step_macs(training: PlannedTraining, batches: StepBatches, step: int) -> float:
    """Of one image at that step."""
    network = training.stored.module
    if isinstance(batches, StageBatches) and isinstance(network, UNet):
        return BACK_AND_FORTH * network.stages[batches.stage(step)].macs
    return training.gmacs * 1e9 / training.steps / training.batch_images


def _one_device(hardware: HardwareSettings) -> Hardware:
    return Hardware(hardware.accelerator, 1, hardware.precision)


def _feature_seconds(extractor: FeatureExtractor, images: KnownImages, device: Device, share: float) -> float:
    extractor.to(device)
    pixels = torch.randint(256, (FEATURE_BATCH_IMAGES, *images.train.shape_chw), dtype=torch.uint8)

    def an_image(count: int) -> float:
        started = time.perf_counter()
        extract_features(extractor, pixels[:count], count)
        return (time.perf_counter() - started) / count

    one = an_image(1)
    count = min(FEATURE_BATCH_IMAGES, max(1, int(share / 3 / one)))
    return _median(lambda: an_image(count), share / 2)


def _median(run: Callable[[], float], seconds: float) -> float:
    """Of as many runs as the seconds allow, one at least."""
    began, found = time.perf_counter(), [run()]
    while len(found) < MOST_RUNS and time.perf_counter() - began < seconds:
        found.append(run())
    return statistics.median(found)


class _Clock:
    """Watches a training by nothing but the time between the ends of its steps: the first one is not counted."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    @property
    def between(self) -> list[float]:
        return [end - begin for begin, end in pairwise(self._ends)]

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self._ends.append(time.perf_counter())

    def log_images(self, name: str, images_u8: Tensor, step: int) -> None: ...
