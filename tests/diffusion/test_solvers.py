"""Solvers against the formulas of the papers, written out here in float64.

Symbols: n timestep of an evaluation, m that of the next one (-1 after the last), a = abar_n, b = abar_m (abar_-1 = 1).
"""

from collections.abc import Callable

import diffusers.schedulers.scheduling_ddpm
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.random import image_noise
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.errors import InputError

NAMES = ["ddpm", "ddim", "dpmsolver++"]
NOISE = NoiseSchedule()
SHAPE = (1, 4, 4)


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"there is no solver 'euler'; there are ddpm, ddim, dpmsolver\+\+"):
        Solver("euler", 10)


def made_up_eps(x: Tensor, n: float) -> Tensor:
    return torch.tanh(x * (0.5 + n / 1000)) + 0.1 * np.sin(n)


def abar(n: float) -> float:
    return float(NOISE.abar[int(n)]) if n >= 0 else 1.0


def run(solver: Solver, eps: Callable[[Tensor, float], Tensor], x: Tensor) -> Tensor:
    started = solver.start(NOISE)
    for i, n in enumerate(started.grid):
        z = image_noise(0, range(len(x)), SHAPE, i + 1) if started.stochastic else None
        x = started.step(eps(x, n), i, x, z)
    return x


def trailing(steps: int) -> list[int]:
    """The timesteps at T, T - T/S, ... of 1..T, one less each for 0..T-1."""
    return [round(1000 * (steps - i) / steps) - 1 for i in range(steps)]


def ddpm_formula(eps: Callable[[Tensor, float], Tensor], x: Tensor, steps: int) -> Tensor:
    """Ho et al. 2020, eq. 11 with the posterior variance, on the schedule that the grid leaves of the whole one."""
    grid = trailing(steps)
    for i, (n, m) in enumerate(zip(grid, [*grid[1:], -1], strict=True)):
        a, b = abar(n), abar(m)
        alpha = a / b
        beta = 1 - alpha
        variance = beta * (1 - b) / (1 - a)
        z = image_noise(0, range(len(x)), SHAPE, i + 1).double()
        x = (x - beta / np.sqrt(1 - a) * eps(x, n)) / np.sqrt(alpha) + np.sqrt(variance) * z
    return x


def ddim_formula(eps: Callable[[Tensor, float], Tensor], x: Tensor, steps: int, eta: float) -> Tensor:
    """Song et al. 2021, eq. 12 and 16."""
    grid = trailing(steps)
    for i, (n, m) in enumerate(zip(grid, [*grid[1:], -1], strict=True)):
        a, b = abar(n), abar(m)
        predicted = eps(x, n)
        sigma = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        x0 = (x - np.sqrt(1 - a) * predicted) / np.sqrt(a)
        z = image_noise(0, range(len(x)), SHAPE, i + 1).double()
        x = np.sqrt(b) * x0 + np.sqrt(1 - b - sigma**2) * predicted + sigma * z
    return x


def assert_follows(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4 * scale)


# 30, 61, 122 and 600 do not divide 1000: the gaps between their timesteps differ
@pytest.mark.parametrize("steps", [1, 5, 30, 50, 61, 122, 600, 1000])
def test_ddpm_follows_its_formula_over_a_whole_run(steps):
    x = image_noise(0, range(3), SHAPE, 0)
    assert_follows(run(Solver("ddpm", steps), made_up_eps, x), ddpm_formula(made_up_eps, x.double(), steps))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 5, 30, 50, 61, 122, 600, 1000])
def test_ddim_follows_its_formula_over_a_whole_run(steps, eta):
    x = image_noise(0, range(3), SHAPE, 0)
    assert_follows(run(Solver("ddim", steps, eta), made_up_eps, x), ddim_formula(made_up_eps, x.double(), steps, eta))


@pytest.mark.parametrize("steps", [20, 1000])
@pytest.mark.parametrize("drawn", [0.0, 1.0], ids=["mean", "variance"])
def test_ddpm_has_mean_and_variance_of_the_scheduler_of_diffusers(steps, drawn, monkeypatch):
    x, z = image_noise(0, range(2), SHAPE, 0), torch.full((2, *SHAPE), drawn)
    monkeypatch.setattr(diffusers.schedulers.scheduling_ddpm, "randn_tensor", lambda *_, **__: z)
    reference = DDPMScheduler(
        trained_betas=NOISE.betas, clip_sample=False, variance_type="fixed_small", timestep_spacing="trailing"
    )
    reference.set_timesteps(steps)
    started = Solver("ddpm", steps).start(NOISE)
    assert started.grid == tuple(reference.timesteps.tolist())
    for i in (0, steps // 2, steps - 2, steps - 1):
        n = reference.timesteps[i]
        eps = made_up_eps(x, float(n))
        expected = reference.step(eps, n, x).prev_sample
        scale = float(expected.abs().max())
        torch.testing.assert_close(started.step(eps, i, x, z), expected, rtol=0, atol=1e-4 * scale)


def gaussian_eps(std: float) -> Callable[[Tensor, float], Tensor]:
    """The exact noise prediction for images of N(0, std^2): linear in x."""
    return lambda x, n: np.sqrt(1 - abar(n)) / (abar(n) * std**2 + 1 - abar(n)) * x


@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 7, 20, 30, 201, 1000])
def test_ddim_on_a_gaussian_is_the_exact_linear_map(steps, std):
    grid = trailing(steps)
    factor = 1.0
    for n, m in zip(grid, [*grid[1:], -1], strict=True):
        a, b = abar(n), abar(m)
        gain = np.sqrt(1 - a) / (a * std**2 + 1 - a)
        factor *= np.sqrt(b / a) * (1 - np.sqrt(1 - a) * gain) + np.sqrt(1 - b) * gain
    x = image_noise(1, range(3), SHAPE, 0)
    found = run(Solver("ddim", steps), gaussian_eps(std), x)
    torch.testing.assert_close(found.double(), factor * x.double(), rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("std", [0.3, 2.0])
def test_dpmsolver_reaches_the_exact_solution_on_a_gaussian_faster_than_ddim(std):
    # along the probability-flow ODE, x over its standard deviation is constant
    a = abar(999)
    exact = std / np.sqrt(a * std**2 + 1 - a)
    x = torch.ones(1, *SHAPE, dtype=torch.float64)
    errors = {
        name: np.array(
            [abs(float(run(Solver(name, s), gaussian_eps(std), x).mean()) - exact) for s in (10, 20, 40, 160)]
        )
        for name in ("ddim", "dpmsolver++")
    }
    assert (errors["dpmsolver++"] < errors["ddim"]).all()
    assert errors["dpmsolver++"][-1] < 1e-3 * exact
    # four times the steps: a quarter of the error at first order, a sixteenth at second
    assert 3 < errors["ddim"][2] / errors["ddim"][3] < 5
    assert errors["dpmsolver++"][2] / errors["dpmsolver++"][3] > 8


@pytest.mark.parametrize("name", NAMES)
def test_grid_starts_at_pure_noise_and_is_spaced_trailing(name):
    assert Solver(name, 20).grid(NOISE) == tuple(float(n) for n in range(999, 0, -50))
    assert Solver(name, 1).grid(NOISE) == (999.0,)
    assert Solver(name, 5).grid(NoiseSchedule("cosine", 100)) == (99.0, 79.0, 59.0, 39.0, 19.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [2, 3, 7, 30, 61, 103, 122, 201, 600, 999, 1000])
def test_grid_has_one_timestep_a_step_all_of_them_on_the_schedule(name, steps):
    grid = Solver(name, steps).grid(NOISE)
    assert grid == tuple(trailing(steps))
    assert len(set(grid)) == steps
    assert min(grid) >= 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_steps_outside_the_schedule_are_refused(name, steps):
    with pytest.raises(InputError, match=rf"solver steps {steps} must lie within 1\.\.1000"):
        Solver(name, steps).start(NOISE)


def test_every_run_starts_without_history():
    solver, x = Solver("dpmsolver++", 6), image_noise(0, range(2), SHAPE, 0)
    expected = run(solver, made_up_eps, x)
    abandoned = solver.start(NOISE)
    for i in range(3):
        abandoned.step(made_up_eps(x, 500), i, x, None)
    assert torch.equal(run(solver, made_up_eps, x), expected)


def test_noise_is_asked_for_exactly_where_it_is_added():
    solvers = {Solver("ddpm", 4): True, Solver("ddim", 4, 0.5): True, Solver("ddim", 4): False}
    solvers[Solver("dpmsolver++", 4)] = False
    assert {solver: solver.start(NOISE).stochastic for solver in solvers} == solvers


@pytest.mark.parametrize("name", ["ddpm", "dpmsolver++"])
def test_eta_belongs_to_ddim_alone(name):
    with pytest.raises(InputError, match=r"eta 0\.5 belongs to ddim, not to"):
        Solver(name, 4, 0.5)


def test_label_names_eta_where_it_matters():
    labels = [Solver("ddim", 4, 0.5).label, Solver("ddim", 4).label, Solver("ddpm", 4).label]
    assert labels == ["ddim(eta=0.5)", "ddim", "ddpm"]


def test_coefficients_of_ddim_are_those_of_its_formula():
    grid = trailing(7)
    wanted = [
        np.sqrt(1 - abar(m)) - np.sqrt(abar(m) / abar(n) * (1 - abar(n)))
        for n, m in zip(grid, [*grid[1:], -1], strict=True)
    ]
    np.testing.assert_allclose(Solver("ddim", 7).coefficients(NOISE), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_tell_how_a_step_answers_to_its_own_prediction(name):
    solver = Solver(name, 6)
    eps = torch.randn(6, 1, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = torch.zeros(1, 1, 1, 1, dtype=torch.float64)

    def after(i: int, changed: float) -> float:
        started, x = solver.start(NOISE), z
        for j in range(i + 1):
            x = started.step(eps[j] + changed * (j == i), j, x, z if started.stochastic else None)
        return x.item()

    wanted = [(after(i, 1.0) - after(i, -1.0)) / 2 for i in range(6)]
    np.testing.assert_allclose(solver.coefficients(NOISE), wanted, rtol=1e-6, atol=1e-9)
