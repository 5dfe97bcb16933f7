"""Solvers against the formulas of the papers, written out here in float64, and against diffusers' own schedulers.

Symbols: n timestep of an evaluation, m that of the next one (-1 after the last), a = abar_n, b = abar_m (abar_-1 = 1).
"""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import diffusers.schedulers.scheduling_ddpm
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.random import image_noise
from duodiff_pipeline.diffusion.solvers import Solver, SolverName
from duodiff_pipeline.errors import InputError

NAMES = get_args(SolverName)
TRAILING = [name for name in NAMES if name != "heun"]
MULTISTEP = ["dpmsolver++", "dpmsolver++3m", "unipc", "unipc3"]
NOISE = NoiseSchedule()
SHAPE = (1, 4, 4)


def test_an_unknown_name_is_refused():
    with pytest.raises(
        InputError, match=r"there is no solver 'euler'; there are ddpm, ddim, dpmsolver\+\+1, dpms.*, heun$"
    ):
        Solver("euler", 10)


def made_up_eps(x: Tensor, n: float) -> Tensor:
    return torch.tanh(x * (0.5 + n / 1000)) + 0.1 * np.sin(n)


def abar(n: float, noise: NoiseSchedule = NOISE) -> float:
    return float(noise.abar_at(torch.tensor([n], dtype=torch.float64))) if n >= 0 else 1.0


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


def gaussian_eps(std: float, noise: NoiseSchedule = NOISE) -> Callable[[Tensor, float], Tensor]:
    """The exact noise prediction for images of N(0, std^2): linear in x."""

    def eps(x: Tensor, n: float) -> Tensor:
        a = abar(n, noise)
        return np.sqrt(1 - a) / (a * std**2 + 1 - a) * x

    return eps


def error_on_the_way(name: str, steps: int) -> float:
    """Relative error where a whole step has led from T-1 to timestep 239 of 1200, heun to 0; images are of N(0, 0.25).

    Every gap there shrinks with the steps; the last steps to clean data stay as long on the scale of log SNR.
    """
    std, noise = 0.5, NoiseSchedule("linear", 1200)  # a fifth of these steps, and all timesteps, are whole numbers
    started, eps = Solver(name, steps).start(noise), gaussian_eps(std, noise)
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    stop = len(started.grid) - 1 if name == "heun" else started.grid.index(239.0)
    for i, n in enumerate(started.grid[:stop]):
        x = started.step(eps(x, n), i, x, None)
    # along the probability-flow ODE, x over its standard deviation is constant
    first, last = (np.sqrt(a * std**2 + 1 - a) for a in (abar(started.grid[i], noise) for i in (0, stop)))
    return abs(x.item() / (last / first) - 1)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("ddim", 0.9, 1.1),
        ("dpmsolver++1", 0.9, 1.1),
        ("dpmsolver++", 1.9, 2.2),
        ("dpmsolver++3m", 1.9, 2.2),
        ("dpmsolver++2s", 1.9, 2.2),
        ("dpmsolver++3s", 2.9, 3.2),
        ("unipc", 2.9, 3.3),  # the corrector adds an order
        ("unipc3", 3.0, 4.3),
        ("heun", 1.9, 2.3),
    ],
)
def test_the_error_on_a_gaussian_falls_with_the_order_s_power_of_the_steps(name, low, high):
    assert low < np.log2(error_on_the_way(name, 30) / error_on_the_way(name, 60)) < high


def test_a_longer_history_and_a_corrector_make_the_error_smaller():
    errors = [error_on_the_way(name, 30) for name in ("ddim", "dpmsolver++", "unipc", "dpmsolver++3m", "unipc3")]
    assert all(later < 0.8 * earlier for earlier, later in pairwise(errors))


def directly(name: str, steps: int):
    """A scheduler of diffusers for the same timesteps, by its own means."""
    options = {"trained_betas": NOISE.betas}
    if name in ("ddpm", "ddim"):
        scheduler = DDIMScheduler(**options, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")
    elif name.startswith("unipc"):
        scheduler = UniPCMultistepScheduler(
            **options, solver_order=3 if name == "unipc3" else 2, timestep_spacing="trailing"
        )
    else:
        orders = {"dpmsolver++1": 1, "dpmsolver++3m": 3, "dpmsolver++3s": 3}
        kind = DPMSolverSinglestepScheduler if name.endswith("s") else DPMSolverMultistepScheduler
        scheduler = kind(**options, solver_order=orders.get(name, 2), lower_order_final=True)
        scheduler.set_timesteps(timesteps=trailing(steps))
        return scheduler
    scheduler.set_timesteps(steps)
    return scheduler


# beyond 14 steps DPM-Solver++ keeps its order to the last but one
@pytest.mark.parametrize("steps", [5, 8, 20])
@pytest.mark.parametrize("name", TRAILING)
def test_every_step_is_bit_for_bit_that_of_the_scheduler_of_diffusers(name, steps):
    started, scheduler = Solver(name, steps).start(NOISE), directly(name, steps)
    x = image_noise(0, range(3), SHAPE, 0)
    assert started.grid == tuple(scheduler.timesteps.tolist())
    for i, n in enumerate(scheduler.timesteps):
        z = image_noise(0, range(3), SHAPE, i + 1) if name == "ddpm" else None
        eps, options = made_up_eps(x, float(n)), {"eta": 1.0, "variance_noise": z} if name == "ddpm" else {}
        expected = scheduler.step(eps, n, x, **options).prev_sample
        x = started.step(eps, i, x, z)
        assert torch.equal(x, expected)


def test_dpmsolver_of_first_order_is_ddim():
    x = image_noise(0, range(3), SHAPE, 0)
    for steps in (1, 7, 30):
        images = [run(Solver(name, steps), made_up_eps, x) for name in ("ddim", "dpmsolver++1")]
        torch.testing.assert_close(*images, rtol=1e-4, atol=1e-4)


def levels(steps: int, noise: NoiseSchedule = NOISE) -> np.ndarray:
    """Karras et al. 2022, eq. 5, from 80 to that of timestep 0."""
    last = np.sqrt(1 / noise.abar[0] - 1)
    root = [80 ** (1 / 7) + i / max(steps - 1, 1) * (last ** (1 / 7) - 80 ** (1 / 7)) for i in range(steps)]
    return np.array(root) ** 7


def heun_formula(eps: Callable[[Tensor, float], Tensor], x: Tensor, grid: tuple[float, ...], steps: int) -> Tensor:
    """Karras et al. 2022, algorithm 1, whose x is ours times the square root of 1 + sigma^2."""
    sigmas = [*levels(steps), 0.0]
    timesteps = [grid[0], *grid[1::2]]
    x = x * np.sqrt(1 + sigmas[0] ** 2)
    for i, (now, then) in enumerate(pairwise(sigmas)):
        d = eps(x / np.sqrt(1 + now**2), timesteps[i])
        euler = x + (then - now) * d
        if then:
            d = (d + eps(euler / np.sqrt(1 + then**2), timesteps[i + 1])) / 2
        x = x + (then - now) * d
    return x


@pytest.mark.parametrize("steps", [1, 3, 7, 30])
def test_heun_follows_its_formula_over_a_whole_run(steps):
    x, solver = image_noise(0, range(3), SHAPE, 0), Solver("heun", steps)
    expected = heun_formula(made_up_eps, x.double(), solver.grid(NOISE), steps)
    assert_follows(run(solver, made_up_eps, x), expected)


@pytest.mark.parametrize("noise", [NOISE, NoiseSchedule("cosine"), NoiseSchedule("cosine", 100)])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_heun_evaluates_twice_at_every_timestep_but_the_first_and_those_lie_at_the_levels_of_its_paper(noise, steps):
    solver = Solver("heun", steps)
    grid = solver.grid(noise)
    assert grid[1::2] == grid[2::2]
    assert len(set(grid)) == steps
    assert len(grid) == 2 * steps - 1 == solver.switches[-1]
    assert list(dict.fromkeys(grid)) == sorted(set(grid), reverse=True) == list(solver.visited(noise))
    found = [np.sqrt(1 / abar(n, noise) - 1) for n in solver.visited(noise)]
    np.testing.assert_allclose(found, levels(steps, noise), rtol=1e-5)
    theirs = HeunDiscreteScheduler(trained_betas=noise.betas)._convert_to_karras(levels(steps, noise), steps)
    np.testing.assert_allclose(found, theirs, rtol=1e-5)


def test_heun_starts_at_the_largest_level_where_that_is_below_80():
    assert Solver("heun", 2).grid(NoiseSchedule("cosine", 2)) == (1.0, 0.0, 0.0)


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


@pytest.mark.parametrize("name", TRAILING)
def test_grid_starts_at_pure_noise_and_is_spaced_trailing(name):
    assert Solver(name, 20).grid(NOISE) == tuple(float(n) for n in range(999, 0, -50))
    if Solver(name, 5).fewest_steps == 1:
        assert Solver(name, 1).grid(NOISE) == (999.0,)
    assert Solver(name, 5).grid(NoiseSchedule("cosine", 100)) == (99.0, 79.0, 59.0, 39.0, 19.0)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmsolver++"])
@pytest.mark.parametrize("steps", [2, 3, 7, 30, 61, 103, 122, 201, 600, 999, 1000])
def test_grid_has_one_timestep_a_step_all_of_them_on_the_schedule(name, steps):
    grid = Solver(name, steps).grid(NOISE)
    assert grid == tuple(trailing(steps))
    assert len(set(grid)) == steps
    assert min(grid) >= 0


@pytest.mark.parametrize("name", NAMES)
def test_more_steps_than_timesteps_are_refused(name):
    with pytest.raises(InputError, match=r"solver steps 1001 must lie within 1\.\.1000"):
        Solver(name, 1001).start(NOISE)


@pytest.mark.parametrize(
    ("name", "fewest"), [("ddim", 1), ("unipc3", 1), ("heun", 1), ("dpmsolver++2s", 3), ("dpmsolver++3s", 4)]
)
def test_too_few_steps_are_refused_and_a_singlestep_solver_needs_one_beyond_its_order(name, fewest):
    assert len(Solver(name, fewest).start(NOISE).grid) == fewest
    with pytest.raises(InputError, match=f"needs {fewest} steps or more, not {fewest - 1}"):
        Solver(name, fewest - 1)


@pytest.mark.parametrize(("steps", "steps_of"), [(3, [2, 1]), (4, [2, 1, 1]), (9, [2, 2, 2, 2, 1])])
def test_singlestep_solvers_take_timesteps_together(steps, steps_of):
    step_of = Solver("dpmsolver++2s", steps).start(NOISE).step_of
    assert [step_of.count(step) for step in dict.fromkeys(step_of)] == steps_of


@pytest.mark.parametrize("name", MULTISTEP)
def test_every_run_starts_without_history(name):
    solver, x = Solver(name, 6), image_noise(0, range(2), SHAPE, 0)
    expected = run(solver, made_up_eps, x)
    abandoned = solver.start(NOISE)
    for i in range(3):
        abandoned.step(made_up_eps(x, 500), i, x, None)
    assert torch.equal(run(solver, made_up_eps, x), expected)


def test_noise_is_asked_for_exactly_where_it_is_added():
    solvers = {Solver("ddpm", 4): True, Solver("ddim", 4, 0.5): True, Solver("ddim", 4): False}
    solvers[Solver("dpmsolver++", 4)] = False
    assert {solver: solver.start(NOISE).stochastic for solver in solvers} == solvers


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MULTISTEP])
def test_a_history_is_dropped_only_where_there_is_one(name):
    with pytest.raises(InputError, match=f"{name}".replace("+", r"\+") + " has no history to drop"):
        Solver(name, 4, history="dropped")


@pytest.mark.parametrize("name", MULTISTEP)
def test_a_dropped_history_makes_the_next_stage_a_run_of_its_own(name):
    x, carried = image_noise(0, range(2), SHAPE, 0), Solver(name, 8)
    whole, dropped = (solver.start(NOISE) for solver in (carried, replace(carried, history="dropped")))
    own = directly(name, 8)
    own.set_begin_index(3)  # diffusers' way to begin in the middle
    for i, n in enumerate(whole.grid):
        eps, stage = made_up_eps(x, n), int(i >= 3)
        before, x = x, dropped.step(eps, i, x, None, stage)
        with_history = whole.step(eps, i, before, None, stage)
        if stage:
            assert torch.equal(x, own.step(eps, own.timesteps[i], before).prev_sample)
        else:
            assert torch.equal(x, with_history)
        if i == 3:
            assert (x - with_history).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["ddpm", "dpmsolver++"])
def test_eta_belongs_to_ddim_alone(name):
    with pytest.raises(InputError, match=r"eta 0\.5 belongs to ddim, not to"):
        Solver(name, 4, 0.5)


def test_label_names_eta_where_it_matters():
    labels = [Solver("ddim", 4, 0.5).label, Solver("ddim", 4).label, Solver("ddpm", 4).label]
    assert labels == ["ddim(eta=0.5)", "ddim", "ddpm"]


def test_label_names_a_history_that_is_dropped():
    solver = Solver("unipc3", 4, history="dropped")
    assert (solver.label, solver.alone.label) == ("unipc3 history dropped", "unipc3")


@pytest.mark.parametrize(
    "solver", [Solver("ddim", 4, 0.5), Solver("heun", 3), Solver("dpmsolver++3m", 7, history="dropped")]
)
def test_json_round_trip_keeps_everything(solver):
    assert Solver.from_dict(json.loads(json.dumps(solver.to_dict()))) == solver


def test_a_name_and_steps_make_a_solver():
    assert Solver.from_dict({"solver": "unipc", "steps": 5}) == Solver("unipc", 5)


def test_records_say_where_the_timesteps_lie():
    assert {Solver(name, 5).conventions for name in TRAILING} == {"trailing timesteps, predicted images not clipped"}
    assert Solver("heun", 5).conventions == "noise levels of Karras et al. 2022, predicted images not clipped"


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_may_switch_wherever_the_timestep_falls(name):
    solver = Solver(name, 6)
    grid = solver.grid(NOISE)
    between = [k for k in range(1, len(grid)) if grid[k] < grid[k - 1]]
    assert list(solver.switches) == [0, *between, len(grid)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("evaluations", [0.3, 1.0, 6.4, 7.0, 13.6, 2000.0])
def test_so_many_evaluations_are_met_as_nearly_as_steps_are_whole(name, evaluations):
    solver, noise = Solver(name, 9), NoiseSchedule("cosine", 40)
    found = solver.of_evaluations(evaluations, noise)
    possible = [replace(solver, steps=steps) for steps in range(solver.fewest_steps, 41)]
    assert abs(found.switches[-1] - evaluations) == min(abs(one.switches[-1] - evaluations) for one in possible)


def test_coefficients_of_ddim_are_those_of_its_formula():
    grid = trailing(7)
    wanted = [
        np.sqrt(1 - abar(m)) - np.sqrt(abar(m) / abar(n) * (1 - abar(n)))
        for n, m in zip(grid, [*grid[1:], -1], strict=True)
    ]
    np.testing.assert_allclose(Solver("ddim", 7).coefficients(NOISE), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_tell_how_a_step_answers_to_its_own_predictions(name):
    solver = Solver(name, 6)
    eps = torch.randn(11, 1, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = torch.zeros(1, 1, 1, 1, dtype=torch.float64)

    def after(i: int, changed: float) -> float:
        started, x = solver.start(NOISE), z
        for j in range(1 + max(j for j, step in enumerate(started.step_of) if step == started.step_of[i])):
            x = started.step(eps[j] + changed * (j == i), j, x, z if started.stochastic else None)
        return x.item()

    wanted = [(after(i, 1.0) - after(i, -1.0)) / 2 for i in range(len(solver.grid(NOISE)))]
    np.testing.assert_allclose(solver.coefficients(NOISE), wanted, rtol=1e-6, atol=1e-9)


def test_the_two_evaluations_of_a_step_of_heun_share_what_one_of_euler_would_have():
    sigmas = [*levels(4), 0.0]
    euler = [(then - now) / np.sqrt(1 + then**2) for now, then in pairwise(sigmas)]
    wanted = [share / 2 for share in euler[:-1] for _ in range(2)] + euler[-1:]
    np.testing.assert_allclose(Solver("heun", 4).coefficients(NOISE), wanted, rtol=1e-5)
