"""Seconds of the Fréchet distance at the 2,048 features of the literature, beside torchmetrics'.

`make metric-speed` prints what is measured. Both take turns in every round, both with every core, as in a user's
process, and of either the median counts. Of fewer images than features both begin with the features: a Gram matrix to
us, sums of products to them. Of more, both begin with the covariance.
"""

import os
import sys
import time
from statistics import median

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from duodiff_pipeline.metrics.frechet import GaussianStatistics, distance_of_features, frechet_distance

D, ROUNDS = 2048, 5
FASTER = {1000: 15, 10_000: 2.5}  # times, asked for


class Features(nn.Module):
    """Features in the place of images."""

    num_features = D

    def forward(self, features):
        return features


def seconds(run) -> tuple[float, float]:
    started = time.perf_counter()
    value = float(run())
    return time.perf_counter() - started, value


@pytest.fixture
def every_core():
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.usefixtures("every_core")
@pytest.mark.parametrize("n", list(FASTER))
def test_faster_than_torchmetrics_with_the_same_result(n, capsys):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(D, D)) / np.sqrt(D)
    real, generated = rng.normal(size=(5000, D)) @ mix, 1.1 * rng.normal(size=(n, D)) @ mix + 0.05
    theirs = FrechetInceptionDistance(
        feature=Features(), reset_real_features=False, input_img_size=(1, 1, D)
    ).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(generated), real=False)
    reference, statistics = GaussianStatistics.from_features(real), GaussianStatistics.from_features(generated)

    def ours() -> float:
        return distance_of_features(generated, reference) if n < D else frechet_distance(statistics, reference)

    def compute() -> torch.Tensor:
        if n < D:
            theirs.reset()
            theirs.update(torch.from_numpy(generated), real=False)
        theirs._computed = None  # what it remembers
        return theirs.compute()

    ours()  # the reference's factor, computed once
    rounds = [(*seconds(compute), *seconds(ours)) for _ in range(ROUNDS)]
    their_seconds, our_seconds = median(r[0] for r in rounds), median(r[2] for r in rounds)
    difference = abs(rounds[0][3] / rounds[0][1] - 1)
    with capsys.disabled():
        sys.stdout.write(
            f"\nn = {n:6,}, {D:,} features: torchmetrics {their_seconds:.2f} s, here {our_seconds:.2f} s, "
            f"{their_seconds / our_seconds:.1f} times as fast; relative difference {difference:.1e}\n"
        )
    assert difference < 1e-6
    assert their_seconds / our_seconds > FASTER[n]
