import tracemalloc

import numpy as np
import pytest

from duodiff_pipeline.metrics import blocks
from duodiff_pipeline.metrics.against_reference import AgainstReference
from duodiff_pipeline.metrics.fid_infinity import fid_infinity
from duodiff_pipeline.metrics.frechet import GaussianStatistics, distance_of_features
from duodiff_pipeline.metrics.kernel_distance import KernelSample, kernel_distance
from duodiff_pipeline.metrics.precision_recall import Manifold

METRICS = ("fid", "kid", "fid_infinity", "precision", "recall")


def draw(n: int, seed: int, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def against(features: np.ndarray) -> AgainstReference:
    return AgainstReference(GaussianStatistics.from_features(features), features)


def test_every_metric_by_its_name():
    real, generated = draw(80, seed=0), 1.5 * draw(60, seed=1)
    statistics = GaussianStatistics.from_features(real)
    assert {metric: against(real).measure(metric, generated) for metric in METRICS} == {
        "fid": distance_of_features(generated, statistics),
        "kid": kernel_distance(KernelSample(generated), KernelSample(real)),
        "fid_infinity": fid_infinity(generated, statistics),
        "precision": Manifold(real).share_inside(generated),
        "recall": Manifold(generated).share_inside(real),
    }


@pytest.mark.parametrize("metric", METRICS)
def test_memory_beside_the_features_does_not_grow_with_the_images(metric, monkeypatch):
    """Pairs of all images would take 30 MB of 2,000 of them, a copy of their features in float64 0.5 MB."""
    monkeypatch.setattr(blocks, "ROWS", 50)
    measured = against(draw(2000, seed=0, d=32))
    generated = draw(2000, seed=1, d=32)
    tracemalloc.start()
    try:
        measured.measure(metric, generated)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400_000
