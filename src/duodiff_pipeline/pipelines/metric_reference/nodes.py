"""The feature extractor, the statistics that generated images are held against, and the floor."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...config import HardwareSettings, MetricReference
from ...images.pack import ImagePack
from ...metrics.classifier import ClassifierConfig, FeatureClassifier, accuracy, train_classifier
from ...metrics.extractor import extract_features
from ...metrics.frechet import GaussianStatistics, frechet_distance
from ...metrics.kernel_distance import KernelSample, kernel_distance
from ...metrics.measure import FEATURE_BATCH_IMAGES
from ...metrics.quarter_turns import QuarterTurns
from ...metrics.reference import ReferenceStatistics, floor
from ...workdir import WorkDir

logger = logging.getLogger(__name__)

CODE = ["config/data.py", "diffusion", "metrics", "pipelines/metric_reference"]


def train_extractor(
    train: ImagePack,
    held_out: ImagePack,
    settings: MetricReference,
    hardware: HardwareSettings,
    work_folder: Path,
) -> tuple[FeatureClassifier, dict[str, Any]]:
    """A classifier of the training images, and its accuracy on the held-out ones.

    Images of a single class give nothing to tell apart: their quarter turns are learnt instead.
    """
    channels, size, _ = train.shape_chw
    config = ClassifierConfig(channels, size, train.classes, settings.features, settings.width)
    if train.classes == 1:
        logger.info("the images have no classes: features are learnt by telling their quarter turns apart")
        config = replace(config, classes=4, learns="quarter_turns")

    def examples(pack: ImagePack) -> tuple[Tensor | QuarterTurns, Tensor]:
        turns = QuarterTurns(pack.images)
        return (pack.images, pack.labels) if config.learns == "classes" else (turns, turns.labels)

    parameters = {**settings.model_dump(), "threads": hardware.threads}
    work = WorkDir(work_folder, "metric_reference", parameters, {"train": train.sha256}, CODE)

    def fit(path: Path) -> None:
        rate, batch = settings.learning_rate, settings.batch_images
        train_classifier(*examples(train), config, settings.steps, batch, rate, settings.seed).save(path)

    extractor = FeatureClassifier.load(work.keep("extractor.safetensors", fit))
    measured = accuracy(extractor, *examples(held_out), FEATURE_BATCH_IMAGES)
    described = {"name": extractor.name, "sha256": extractor.sha256, "learns": config.learns}
    return extractor, {**described, "held_out_accuracy": measured}


def reference_statistics(extractor: FeatureClassifier, held_out: ImagePack) -> ReferenceStatistics:
    """Statistics of the held-out images."""
    features = extract_features(extractor, held_out.images, FEATURE_BATCH_IMAGES)
    return ReferenceStatistics(
        GaussianStatistics.from_features(features), extractor.name, extractor.sha256, held_out.sha256, held_out.split
    )


def measure_floor(
    extractor: FeatureClassifier,
    train: ImagePack,
    held_out: ImagePack,
    reference: ReferenceStatistics,
    settings: MetricReference,
    images: int | None,
) -> dict[str, Any]:
    """FID and KID of as many real training images as a block of the evaluation has (or all, where there are fewer)."""
    features = extract_features(extractor, train.images, FEATURE_BATCH_IMAGES)
    held_out_sample = KernelSample.from_features(extract_features(extractor, held_out.images, FEATURE_BATCH_IMAGES))
    n = min(images or len(held_out), len(train))

    def fid(drawn: NDArray[np.floating]) -> float:
        return frechet_distance(GaussianStatistics.from_features(drawn), reference.statistics)

    def kid(drawn: NDArray[np.floating]) -> float:
        return kernel_distance(KernelSample.from_features(drawn), held_out_sample)

    def measured(distance: Callable[[NDArray[np.floating]], float]) -> dict[str, Any]:
        found = floor(features, distance, n, settings.floor_repeats, settings.seed)
        return {**asdict(found), "mean": found.mean, "spread": found.spread}

    return {"fid": measured(fid), "kid": measured(kid)}
