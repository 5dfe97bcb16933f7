"""Seconds of the Fréchet distance at the 2,048 features of the literature, beside torchmetrics'.

`make metric-speed` prints what is measured. Both take turns in every round, on one thread, and of either the median
counts. Fewer images than features are a Gram matrix to us, centring included; of more, the covariance is given to both.
"""

import sys
import time
from statistics import median

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from duodiff_pipeline.metrics.frechet import GaussianStatistics, distance_of_features, frechet_distance

D, ROUNDS = 2048, 3
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


@pytest.mark.slow
@pytest.mark.parametrize("n", list(FASTER))
def test_faster_than_torchmetrics_with_the_same_result(n, capsys):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(D, D)) / np.sqrt(D)
    real, generated = rng.normal(size=(5000, D)) @ mix, 1.1 * rng.normal(size=(n, D)) @ mix + 0.05
    theirs = FrechetInceptionDistance(feature=Features(), input_img_size=(1, 1, D)).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(generated), real=False)
    reference, statistics = GaussianStatistics.from_features(real), GaussianStatistics.from_features(generated)

    def ours() -> float:
        return distance_of_features(generated, reference) if n < D else frechet_distance(statistics, reference)

    def compute() -> torch.Tensor:
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
