"""Seed blocks as metric records: value, interval, and all that a comparison must hold equal."""

from itertools import product
from typing import Any

import pandas as pd

from ...config import Evaluation, Sampling
from ...diffusion.solvers import Solver
from ...files import sha256_of_json
from ...images.pack import ImagePack
from ...metrics.extractor import FeatureExtractor
from ...metrics.fid_infinity import infinity_warnings
from ...metrics.intervals import Interval, block_interval
from ...metrics.memorisation import Nearness, memorisation_interval, share_by_chance
from ...metrics.records import LABEL_ACCURACY, MetricRecord, few_images_warnings
from ...metrics.reference import ReferenceStatistics

SHARES = ("precision", "recall", LABEL_ACCURACY)


def make_records(
    evaluated: list[dict[str, Any]],
    blocks: pd.DataFrame,
    settings: Evaluation,
    sampling: Sampling,
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    train: ImagePack,
    held_out: ImagePack,
) -> list[dict[str, Any]]:
    """One metric record a plan and metric."""
    n_generated = settings.images or len(held_out)
    n_features = reference.statistics.n_features
    few = few_images_warnings(n_generated, reference.statistics.n_images, n_features)
    images = {"train": train, "held_out": held_out}[reference.sample_split]
    by_features = {"extractor": extractor.name, "extractor_sha256": extractor.sha256}
    against_statistics = {
        **by_features,
        "reference": reference.split,
        "n_reference": reference.statistics.n_images,
        "reference_sha256": reference.sha256,
    }
    against_images = {
        **by_features,
        "reference": reference.sample_split,
        "n_reference": len(images),
        "reference_sha256": images.sha256 if reference.split == "published" else reference.sha256,
    }
    against_both = {
        "reference": "both",
        "n_reference": len(train) + len(held_out),
        "reference_sha256": sha256_of_json([train.sha256, held_out.sha256]),
        "expected": share_by_chance(len(train), len(held_out)),
    }
    more: dict[str, dict[str, Any]] = {
        "fid_infinity": {**against_statistics, "warnings": infinity_warnings(n_generated, n_features)},
        "precision": against_images,
        "recall": against_images,
    }
    measured_by: dict[str, dict[str, Any]] = {
        "fid": {**against_statistics, "warnings": few},
        "kid": against_images,
        **{metric: more[metric] for metric in settings.more_metrics},
        "memorisation_features": {**by_features, **against_both},
        "memorisation_pixels": {"extractor": "pixels", "extractor_sha256": None, **against_both},
    }
    if LABEL_ACCURACY in blocks:  # by chance an image has one label of all
        measured_by[LABEL_ACCURACY] = {**against_images, "expected": 1 / held_out.classes}
    records = []
    for described, (metric, how) in product(evaluated, measured_by.items()):
        solver = Solver.from_dict(described)
        own = blocks[blocks["plan"] == described["name"]]
        interval = _interval(own, metric, len(train), len(held_out))
        noted = [f"{described['name']} is {described['note']}"] if described["note"] else []
        record = MetricRecord(
            name=metric,
            value=interval.value,
            interval_low=interval.low,
            interval_high=interval.high,
            interval_method=interval.method,
            n_generated=n_generated,
            **{**how, "warnings": [*how.get("warnings", ()), *noted]},
            denoiser=described["name"],
            edges=described["edges"],
            solver=solver.label,
            solver_conventions=solver.conventions,
            steps=described["steps"],
            nfe=described["nfe"],
            k=described["k"],
            gmacs=float(own["gmacs"].mean()),
            micro_batch_images=sampling.micro_batch_images,
            precision=sampling.precision,
            weights=described["weights"],
            guidance=described["guidance"],
            seeds=settings.seeds,
        )
        records.append(record.model_dump(mode="json"))
    return records


def _interval(blocks: pd.DataFrame, metric: str, n_train: int, n_held_out: int) -> Interval:
    """Of one metric of one plan."""
    values = blocks[metric].tolist()
    if metric in SHARES:
        return block_interval(values).within(0, 1)
    seen = metric.removeprefix("memorisation_")
    if seen == metric:
        return block_interval(values)
    nearness = [Nearness(*block) for block in zip(values, blocks[f"same_nearest_{seen}"], strict=True)]
    return memorisation_interval(nearness, n_train, n_held_out)
