"""The feature extractor, the statistics that generated images are held against, and the floor."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...config import HardwareSettings, MetricReference
from ...errors import InputError
from ...images.pack import ImagePack
from ...metrics.against_reference import AgainstReference, FeatureMetric, MoreMetric
from ...metrics.classifier import ClassifierConfig, FeatureClassifier, accuracy, train_classifier
from ...metrics.extractor import FeatureExtractor, extract_features
from ...metrics.frechet import GaussianStatistics
from ...metrics.measure import FEATURE_BATCH_IMAGES
from ...metrics.quarter_turns import QuarterTurns
from ...metrics.reference import RealSplit, ReferenceStatistics, floor
from ...metrics.torchscript import TorchScriptExtractor
from ...workdir import WorkDir

logger = logging.getLogger(__name__)

CODE = ["config/data.py", "diffusion", "metrics", "pipelines/metric_reference"]
DOWNLOADS = Path("01_raw") / "extractors"


def make_extractor(
    train: ImagePack,
    held_out: ImagePack,
    settings: MetricReference,
    hardware: HardwareSettings,
    work_folder: Path,
) -> tuple[FeatureExtractor, dict[str, Any]]:
    """The extractor that is asked for, and its accuracy: unknown of one from a file."""
    if settings.extractor is None:
        return _train_classifier(train, held_out, settings, hardware, work_folder)
    wanted = settings.extractor
    if wanted.path is not None:
        extractor = TorchScriptExtractor.open(Path(wanted.path), wanted.sha256)
    else:
        assert wanted.url is not None
        extractor = TorchScriptExtractor.fetch(wanted.url, wanted.sha256, work_folder.parents[1] / DOWNLOADS)
    return extractor, {"name": extractor.name, "sha256": extractor.sha256, "learns": None, "held_out_accuracy": None}


def _train_classifier(
    train: ImagePack,
    held_out: ImagePack,
    settings: MetricReference,
    hardware: HardwareSettings,
    work_folder: Path,
) -> tuple[FeatureClassifier, dict[str, Any]]:
    """A classifier of the training images, and its accuracy on the held-out ones.

    Images of a single class give nothing to tell apart: their quarter turns are learnt instead.
    """
    config = classifier_config(train, settings)
    if config.learns == "quarter_turns":
        logger.info("the images have no classes: features are learnt by telling their quarter turns apart")

    def examples(pack: ImagePack) -> tuple[Tensor | QuarterTurns, Tensor]:
        turns = QuarterTurns(pack.images)
        return (pack.images, pack.labels) if config.learns == "classes" else (turns, turns.labels)

    parameters = {**settings.model_dump(exclude={"extractor", "reference"}), "threads": hardware.threads}
    work = WorkDir(work_folder, "metric_reference", parameters, {"train": train.sha256}, CODE)

    def fit(path: Path) -> None:
        rate, batch = settings.learning_rate, settings.batch_images
        train_classifier(*examples(train), config, settings.steps, batch, rate, settings.seed).save(path)

    extractor = FeatureClassifier.load(work.keep("extractor.safetensors", fit))
    measured = accuracy(extractor, *examples(held_out), FEATURE_BATCH_IMAGES)
    described = {"name": extractor.name, "sha256": extractor.sha256, "learns": config.learns}
    return extractor, {**described, "held_out_accuracy": measured}


def classifier_config(train: ImagePack, settings: MetricReference) -> ClassifierConfig:
    """Of the classifier whose features are taken where no other extractor is asked for."""
    channels, size, _ = train.shape_chw
    config = ClassifierConfig(channels, size, train.classes, settings.features, settings.width)
    return replace(config, classes=4, learns="quarter_turns") if train.classes == 1 else config


def reference_statistics(
    extractor: FeatureExtractor,
    train: ImagePack,
    held_out: ImagePack,
    settings: MetricReference,
    hardware: HardwareSettings,
) -> ReferenceStatistics:
    """Statistics of the held-out or of the training images, or published ones; raises InputError where these do not fit
    the extractor.
    """
    extractor.to(hardware.device)
    if settings.reference not in ("held_out", "train"):
        found = ReferenceStatistics.published(Path(settings.reference), extractor.name, extractor.sha256)
        (one,) = extract_features(extractor, held_out.images[:1], FEATURE_BATCH_IMAGES)
        if len(one) != found.statistics.n_features:
            published = f"{settings.reference} is of {found.statistics.n_features} features"
            raise InputError(f"{published}, but {extractor.name} has {len(one)}")
        return found
    split: RealSplit = "train" if settings.reference == "train" else "held_out"
    pack = {"train": train, "held_out": held_out}[split]
    features = extract_features(extractor, pack.images, FEATURE_BATCH_IMAGES)
    statistics = GaussianStatistics.from_features(features)
    return ReferenceStatistics(statistics, extractor.name, extractor.sha256, pack.sha256, split)


def measure_floor(
    extractor: FeatureExtractor,
    train: ImagePack,
    held_out: ImagePack,
    reference: ReferenceStatistics,
    settings: MetricReference,
    images: int | None,
    more_metrics: tuple[MoreMetric, ...],
    hardware: HardwareSettings,
) -> dict[str, Any]:
    """Every metric of the evaluation, of as many real images as it has in a block, or all where there are fewer; they
    are training images, unless it is these that the evaluation holds against.
    """
    extractor.to(hardware.device)
    features = {
        split: extract_features(extractor, pack.images, FEATURE_BATCH_IMAGES)
        for split, pack in (("train", train), ("held_out", held_out))
    }
    against = AgainstReference(reference.statistics, features[reference.sample_split])
    drawn_from = features[reference.floor_split]
    n = min(images or len(held_out), len(drawn_from))
    metrics: tuple[FeatureMetric, ...] = ("fid", "kid", *more_metrics)

    def measured(metric: FeatureMetric) -> dict[str, Any]:
        found = floor(
            drawn_from, lambda drawn: against.measure(metric, drawn), n, settings.floor_repeats, settings.seed
        )
        return {**asdict(found), "mean": found.mean, "spread": found.spread}

    return {metric: measured(metric) for metric in metrics}
