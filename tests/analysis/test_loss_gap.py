"""The loss gap against errors written out by hand."""

import numpy as np
import pytest
import torch

from duodiff_pipeline.analysis.loss_gap import find_loss_gap, noise_errors
from duodiff_pipeline.diffusion.denoiser import Prediction
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.random import image_noise

NOISE = NoiseSchedule("cosine", 1000)
SHAPE = (1, 4, 4)


class Knows:
    """Recovers the noise from the clean images, and adds an error of its own."""

    def __init__(self, x0, error):
        self.x0, self.error, self.asked = x0, error, []

    def predict(self, x, timestep, labels=None):
        self.asked.append(timestep)
        abar = float(NOISE.abar[int(timestep)])
        eps = (x - abar**0.5 * self.x0) / (1 - abar) ** 0.5
        ones = torch.ones(len(x), dtype=torch.long)
        return Prediction(eps + self.error(timestep), ones, ones)


def test_errors_are_those_on_the_noise_at_every_timestep():
    x0 = torch.rand(5, *SHAPE, dtype=torch.float64)
    network = Knows(x0, lambda n: n / 1000)
    errors = noise_errors(network, x0, (900.0, 300.0), NOISE, seed=0)
    assert network.asked == [900.0, 300.0]
    np.testing.assert_allclose(errors, [[0.81] * 5, [0.09] * 5], rtol=1e-6)


def test_every_image_has_the_noise_of_its_seed_and_index():
    x0 = torch.zeros(3, *SHAPE)

    class Silent:
        def predict(self, x, timestep, labels=None):
            return Prediction(torch.zeros_like(x), torch.ones(len(x)), torch.ones(len(x)))

    wanted = image_noise(4, range(3), SHAPE, 0).square().mean(dim=(1, 2, 3))
    errors = noise_errors(Silent(), x0, (999.0, 0.0), NOISE, seed=4)
    np.testing.assert_allclose(errors, [wanted, wanted], rtol=1e-6)
    np.testing.assert_array_equal(noise_errors(Silent(), x0[:2], (5.0,), NOISE, seed=4), errors[:1, :2])


def test_the_excess_is_the_weighted_sum_of_gaps_over_the_deep_networks_whole_error():
    deep = np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 1.0]])
    gap = np.array([[0.0, 0.0], [0.1, 0.3], [1.0, 1.0]])
    found = find_loss_gap(deep + gap, deep, np.array([2.0, 1.0, -3.0]), tolerance=0.02, seed=0)
    whole = 4 * 2 + 1 * 2 + 9 * 1
    np.testing.assert_allclose(found.excess, [0, 0, 0.2 / whole, (0.2 + 9) / whole])
    assert found.k == 2
    assert (found.excess_low <= found.excess).all()
    assert (found.excess <= found.excess_high).all()


@pytest.mark.parametrize(("gap", "k"), [(0.0, 6), (-0.5, 6), (10.0, 0)])
def test_networks_that_are_equal_better_or_far_worse(gap, k):
    deep = np.ones((6, 20))
    found = find_loss_gap(deep + gap, deep, np.ones(6), tolerance=0.01, seed=0)
    assert (found.k_low, found.k, found.k_high) == (k, k, k)


def test_what_comes_after_the_first_excess_is_never_served_shallow():
    deep = np.ones((4, 10))
    shallow = deep + np.array([0.0, 1.0, -1.0, 0.0])[:, None]
    assert find_loss_gap(shallow, deep, np.ones(4), tolerance=0.01, seed=0).k == 1


def test_a_switch_is_chosen_only_where_the_solver_may_switch():
    deep, coefficients = np.ones((5, 10)), np.ones(5)
    shallow = deep + np.array([0.0, 0.0, 0.0, 1.0, 0.0])[:, None]
    assert find_loss_gap(shallow, deep, coefficients, tolerance=0.01, seed=0).k == 3
    found = find_loss_gap(shallow, deep, coefficients, tolerance=0.01, seed=0, switches=(0, 1, 5))
    assert (found.k_low, found.k, found.k_high) == (1, 1, 1)
    assert len(found.excess) == 6


def test_the_interval_holds_the_switch_of_all_images_as_often_as_it_says():
    rng = np.random.default_rng(0)
    evaluations, images, draws = 20, 40, 200
    mean_gap = np.linspace(0, 0.02, evaluations)
    truth = int((np.cumsum(mean_gap) / evaluations <= 0.005).sum())
    held = 0
    for draw in range(draws):
        deep = rng.gamma(4, 0.25, (evaluations, images))
        gap = mean_gap[:, None] + rng.normal(0, 0.02, images) + rng.normal(0, 0.02, (evaluations, images))
        found = find_loss_gap(deep + gap, deep, np.ones(evaluations), 0.005, draw)
        held += found.k_low <= truth <= found.k_high
    assert held / draws > 0.9
