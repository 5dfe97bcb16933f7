"""Seconds on this device, from a few evaluations and a few training steps of every network.

Weights do not matter for that, so they are all the same number; images are random. On digits, on two cores with little
else to do, the trainings took 321 s, 1.11 times what was told.
"""

import copy
import math
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
from ..metrics.classifier import FeatureClassifier, train_classifier
from ..metrics.extractor import FeatureExtractor, extract_features
from ..metrics.measure import FEATURE_BATCH_IMAGES
from ..networks.backbone import Backbone
from ..networks.cost import count_macs
from ..networks.files import StoredNetwork
from ..networks.unet import UNet
from ..pipelines.trained import training_labels
from ..training.batches import StageBatches, StepBatches
from ..training.fit import Hardware, fit
from ..training.modules import NoiseTraining
from .images import KnownImages, PlannedLatents
from .memory import activation_bytes, weight_bytes
from .networks import PlannedTraining
from .parts import AUTOENCODER, CLASSIFIER
from .sampling import Call

SECONDS = 12.0  # of all measurements together, about
MOST_RUNS, MOST_STEPS = 9, 30
GROWTH = 8  # of a batch, from one to the next that is tried
OF_MEMORY = 0.5  # of what is free, that a measurement may take
WEIGHT = 0.01
DECODED_SIDE = 16  # latents, at most, of what is decoded to measure
LONGEST = 3  # shares, that a training may be tried for
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
    """By name of the network, CLASSIFIER and AUTOENCODER among them where there are any; feature_seconds: of an image's
    features, None where the extractor is not here.

    decoding_seconds: of an image's latents, 0 where there are none; seconds: that all of it took.
    """

    speeds: Mapping[str, Speed]
    steps: Mapping[str, StepSpeed]
    feature_seconds: float | None
    decoding_seconds: float
    seconds: float


def calibrate(
    p: Parameters,
    trainings: Mapping[str, PlannedTraining],
    images: KnownImages,
    extractor: FeatureExtractor | None,
) -> Calibration:
    """Trainings that are alike but for their seed or stage are measured once."""
    started = time.perf_counter()
    alike = {name: _shape_of(one) for name, one in trainings.items()}
    first = {shape: name for name, shape in reversed(alike.items())}
    share = SECONDS / (2 * len(first) + 3)
    speeds, steps = dict[tuple[object, ...], Speed](), dict[tuple[object, ...], StepSpeed]()
    for shape, name in first.items():
        if backbone := _backbone(trainings[name].stored):
            speeds[shape] = _speed(backbone, p, images.examples.shape_chw, share)
    of_exits = speeds[alike[p.early_exit.backbone]]
    for shape, name in first.items():
        if trainings[name].new and not trainings[name].finished:
            steps[shape] = _step(trainings[name], p, images, speeds.get(shape, of_exits), share)
    by_name = {name: speeds[shape] for name, shape in alike.items() if shape in speeds}
    if isinstance(extractor, FeatureClassifier):
        by_name[CLASSIFIER] = _classifier_speed(extractor, p, images, share)
    decoding = 0.0
    if images.latents is not None:
        by_name[AUTOENCODER], decoding = _autoencoder_speed(images.latents, p)
    return Calibration(
        by_name,
        {name: steps[shape] for name, shape in alike.items() if shape in steps},
        None if extractor is None else _feature_seconds(extractor, p, images, share),
        decoding,
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


def _with_weights(module: nn.Module, device: str) -> nn.Module:
    """A copy on the device, whose weights are all one number."""
    with torch.no_grad():
        module = copy.deepcopy(module).to("meta").to_empty(device=device)
        for weights in module.parameters():
            weights.fill_(WEIGHT)
        for buffer in module.buffers():
            buffer.fill_(1)
    return module


def _speed(backbone: Backbone, p: Parameters, shape: tuple[int, int, int], share: float) -> Speed:
    device = p.hardware.device
    network = _with_weights(backbone, device).eval().requires_grad_(False)
    assert isinstance(network, Backbone)
    solver, noise = Solver("ddim", 1), p.noise.schedule()

    def an_evaluation(count: int) -> float:
        trace = sample(network, solver, noise, shape, range(count), 0, count, device, None, p.sampling.precision).trace
        return float(trace.seconds.min())

    one = an_evaluation(1)
    if one < share:  # else what happens only once hardly counts
        one = _fastest(lambda: an_evaluation(1), share / 4)
    most, count, many = p.sampling.micro_batch_images, 1, one
    while count < most and GROWTH * many < share / 4:  # a batch takes no longer than its images one by one
        count = min(GROWTH * count, most)
        many = an_evaluation(count)
    if count == 1:
        return Speed(0.0, one / backbone.macs, 1)
    many = _fastest(lambda: an_evaluation(count), share / 3)
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
    shape, batch = images.examples.shape_chw, training.batch_images
    step_macs = training.gmacs * 1e9 / training.steps / batch

    def expected(count: int) -> float:
        return BACK_AND_FORTH * speed.a_call + speed.a_mac * step_macs * count

    count = batch
    while count > 1 and 3 * expected(count) > share:
        count //= 2
    held = weight_bytes(training.new.network) + count * (activation_bytes(training.new.network, shape) or 0)
    too_large = held > OF_MEMORY * psutil.virtual_memory().available
    if too_large or 3 * expected(count) > LONGEST * share:
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
    by_stage: dict[float, float] = {}  # the fastest step of each, by its multiply-accumulates
    for step, seconds in enumerate(clock.between, start=1):
        macs = _step_macs(training, batches, step)
        by_stage[macs] = min(seconds, by_stage.get(macs, math.inf))
    fastest = sum(by_stage.values()) / sum(by_stage) * step_macs
    return StepSpeed(fastest * expected(batch) / expected(count), count)


def _batches(training: PlannedTraining, p: Parameters, images: KnownImages, count: int, steps: int) -> StepBatches:
    """As those of the training, but of fewer random images."""
    random, flip, noise = images.examples.random(count), p.training.flip, p.noise.schedule()
    more = training_labels(random, p.training)
    if training.batches is not None:
        edges, weights = training.header.stage_edges, p.multistage.timesteps if p.multistage else "uniform"
        return StageBatches(random, edges, noise.timesteps, weights, count, steps, 0, flip, **more)
    low, high = map(int, training.header.timestep_range)
    return StepBatches(random, (low, high), count, steps, 0, flip, **more)


def _step_macs(training: PlannedTraining, batches: StepBatches, step: int) -> float:
    """Of one image at that step."""
    network = training.stored.module
    if isinstance(batches, StageBatches) and isinstance(network, UNet):
        return BACK_AND_FORTH * network.stages[batches.stage(step)].macs
    return training.gmacs * 1e9 / training.steps / training.batch_images


def _one_device(hardware: HardwareSettings) -> Hardware:
    """Of a process that has the whole of its share in memory; nothing is compiled, which takes longer than this may."""
    more = {"gradient_checkpointing": hardware.gradient_checkpointing, "channels_last": hardware.channels_last}
    return Hardware(hardware.accelerator, 1, hardware.precision, **more)


def _classifier_speed(extractor: FeatureClassifier, p: Parameters, images: KnownImages, share: float) -> Speed:
    """Of a training step, whose multiply-accumulates are three times those of features."""
    settings, known = p.metric_reference, images.train.random(1)
    batch = min(settings.batch_images, FEATURE_BATCH_IMAGES)

    def train(steps: int) -> float:
        started = time.perf_counter()
        train_classifier(known.images, known.labels[:1] * 0, extractor.config, steps, batch, 1e-3, 0)
        return time.perf_counter() - started

    pixels = torch.empty(1, *known.shape_chw, dtype=torch.uint8, device="meta")
    a_step = _fastest(lambda: train(2) / 2, share)
    return Speed(0.0, a_step / batch / (3 * count_macs(extractor, pixels)), batch)


def _autoencoder_speed(latents: PlannedLatents, p: Parameters) -> tuple[Speed, float]:
    """And the seconds of decoding an image; encoding is taken for as fast as that for its multiply-accumulates."""
    decoder, device = latents.autoencoder.decoder, p.hardware.device
    channels, side, _ = latents.shape_chw
    z = torch.zeros(1, channels, min(side, DECODED_SIDE), min(side, DECODED_SIDE), device=device)
    whole = count_macs(decoder, torch.empty(1, *latents.shape_chw, device="meta"))
    macs, with_weights = count_macs(decoder, z.to("meta")), _with_weights(decoder, device)
    started = time.perf_counter()
    with torch.inference_mode():
        with_weights(z).cpu()
    speed = Speed(0.0, (time.perf_counter() - started) / macs, 1)
    return speed, speed.seconds(Call(AUTOENCODER, whole, 1))


def _feature_seconds(extractor: FeatureExtractor, p: Parameters, images: KnownImages, share: float) -> float:
    extractor.to(p.hardware.device)
    pixels = images.train.random(FEATURE_BATCH_IMAGES).images

    def an_image(count: int) -> float:
        started = time.perf_counter()
        extract_features(extractor, pixels[:count], count)
        return (time.perf_counter() - started) / count

    one = an_image(1)
    count = min(FEATURE_BATCH_IMAGES, max(1, int(share / 3 / one)))
    return _fastest(lambda: an_image(count), share / 2)


def _fastest(run: Callable[[], float], seconds: float) -> float:
    """Of as many runs as the seconds allow, one at least: whatever else the machine does only adds."""
    began, fastest, runs = time.perf_counter(), run(), 1
    while runs < MOST_RUNS and time.perf_counter() - began < seconds:
        fastest, runs = min(fastest, run()), runs + 1
    return fastest


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
