"""Staged denoisers against diffusers' schedulers driven in a plain loop, with networks that differ."""

from itertools import pairwise

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

from duodiff_pipeline.diffusion.denoiser import Prediction
from duodiff_pipeline.diffusion.random import image_noise
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.staged import StagedDenoiser

SHAPE = (1, 8, 8)
IMAGES = range(2, 8)
SEED = 4
STEPS = 8  # divides 1000: only there the DDIM and DDPM of diffusers step along their own grid
SOLVERS = [
    Solver("ddpm", STEPS),
    Solver("ddim", STEPS),
    Solver("ddim", STEPS, 0.5),
    Solver("ddim", STEPS, 1.0),
    *(Solver(name, STEPS) for name in ("dpmsolver++", "dpmsolver++3m", "dpmsolver++2s", "dpmsolver++3s")),
    *(Solver(name, STEPS) for name in ("unipc", "unipc3", "heun")),
]
DROPPING = [Solver(name, STEPS, history="dropped") for name in ("dpmsolver++", "dpmsolver++3m", "unipc", "unipc3")]


class Counting:
    """Passes on to a network and counts the evaluations."""

    def __init__(self, network):
        self.network, self.calls, self.timesteps = network, 0, []

    def predict(self, x, timestep, labels=None):
        self.calls += 1
        self.timesteps.append(timestep)
        return self.network.predict(x, timestep, labels)


@pytest.fixture
def shallow(make_uvit):
    return make_uvit(seed=1, depth=3)


@pytest.fixture
def deep(make_uvit):
    return make_uvit(seed=2, depth=5)


def plain_scheduler(solver, noise):
    """diffusers' own, set to the timesteps by its own means; Heun's to the levels that our schedule has there."""
    options = {"num_train_timesteps": 1000, "trained_betas": np.linspace(1e-4, 0.02, 1000)}
    trailing = {**options, "timestep_spacing": "trailing"}
    order = 3 if "3" in solver.name else 2
    if solver.name in ("dpmsolver++2s", "dpmsolver++3s"):
        scheduler = DPMSolverSinglestepScheduler(**options, solver_order=order, lower_order_final=True)
        scheduler.set_timesteps(timesteps=[int(n) for n in solver.grid(noise)])
        return scheduler
    if solver.name == "heun":
        scheduler = HeunDiscreteScheduler(**trailing)
        scheduler.set_timesteps(timesteps=[solver.grid(noise)[0], *solver.grid(noise)[1::2]])
        abar = noise.abar_at(torch.tensor(solver.grid(noise), dtype=torch.float64))
        scheduler.sigmas = torch.cat([(1 / abar - 1).sqrt(), torch.zeros(1)]).float()
        return scheduler
    if solver.name == "ddpm":
        scheduler = DDPMScheduler(**trailing, clip_sample=False, variance_type="fixed_small")
    elif solver.name == "ddim":
        scheduler = DDIMScheduler(**trailing, clip_sample=False, set_alpha_to_one=True)
    elif solver.name.startswith("unipc"):
        scheduler = UniPCMultistepScheduler(**trailing, solver_order=order)
    else:
        scheduler = DPMSolverMultistepScheduler(**trailing, solver_order=order, final_sigmas_type="zero")
    scheduler.set_timesteps(solver.steps)
    return scheduler


def plain_loop(solver, networks, noise, monkeypatch):
    """diffusers' own scheduler, and one network for each evaluation."""
    scheduler = plain_scheduler(solver, noise)
    x = image_noise(SEED, range(8), SHAPE, 0)
    x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5 if solver.name == "heun" else x
    with torch.inference_mode():
        for i, (n, network) in enumerate(zip(scheduler.timesteps, networks, strict=True)):
            if solver.history == "dropped" and i and network is not networks[i - 1]:
                scheduler = plain_scheduler(solver, noise)
                scheduler.set_begin_index(i)
            z, step = image_noise(SEED, range(8), SHAPE, i + 1), {}
            monkeypatch.setattr(diffusers.schedulers.scheduling_ddpm, "randn_tensor", lambda *_, z=z, **__: z)
            if solver.name == "ddim":
                step = {"eta": solver.eta, "variance_noise": z if solver.eta else None}
            seen = scheduler.scale_model_input(x, n)
            x = scheduler.step(network(seen, n.repeat(8)), n, x, **step).prev_sample
    return x[2:8]


def tolerance(solver):
    """DDPM's own formula and DDIM's at eta = 1 are one, but round differently, and so do Heun's two scales of x."""
    return {"ddpm": 2e-5, "heun": 1e-4}.get(solver.name, 1e-6)


@pytest.mark.parametrize("solver", SOLVERS + DROPPING, ids=lambda solver: solver.label)
def test_k_of_nfe_equals_networks_in_a_plain_loop(solver, shallow, deep, noise, monkeypatch):
    images, nfe = [], len(solver.grid(noise))
    for k in solver.switches[::3]:
        counted = {"shallow": Counting(shallow), "deep": Counting(deep)}
        schedule = StageSchedule.from_switch(k, solver.grid(noise), ("shallow", "deep"), noise)
        samples = sample(StagedDenoiser(schedule, counted), solver, noise, SHAPE, IMAGES, SEED, 8)
        assert (counted["shallow"].calls, counted["deep"].calls) == (k, nfe - k)
        assert counted["shallow"].timesteps + counted["deep"].timesteps == list(solver.grid(noise))
        assert samples.trace.stages.tolist() == [0] * k + [1] * (nfe - k)
        assert samples.trace.exit_depth.tolist() == [[3] * 6] * k + [[5] * 6] * (nfe - k)
        expected = plain_loop(solver, [shallow] * k + [deep] * (nfe - k), noise, monkeypatch)
        torch.testing.assert_close(samples.images, expected, rtol=tolerance(solver), atol=tolerance(solver))
        images.append(samples.images)
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(images))


@pytest.mark.parametrize("solver", SOLVERS + DROPPING, ids=lambda solver: solver.label)
def test_k_0_and_k_of_nfe_are_the_bare_networks_bit_for_bit(solver, shallow, deep, noise):
    for k, bare in ((0, deep), (solver.switches[-1], shallow)):
        schedule = StageSchedule.from_switch(k, solver.grid(noise), ("shallow", "deep"), noise)
        staged = StagedDenoiser(schedule, {"shallow": shallow, "deep": deep})
        images = [sample(denoiser, solver, noise, SHAPE, IMAGES, SEED, 8).images for denoiser in (staged, bare)]
        assert torch.equal(*images)


@pytest.mark.parametrize("name", ["dpmsolver++3m", "dpmsolver++3s", "unipc3", "heun"])
def test_one_network_in_every_stage_equals_the_network_alone(name, deep, noise):
    solver = Solver(name, 7)
    schedule = StageSchedule((800.0, 450.0, 450.0 - 1e-9), ("a", "b", "c", "d"), noise)
    staged = StagedDenoiser(schedule, dict.fromkeys("abcd", deep))
    images = [sample(denoiser, solver, noise, SHAPE, range(4), 0, 4).images for denoiser in (staged, deep)]
    assert torch.equal(*images)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.label)
def test_an_edge_on_a_timestep_leaves_all_evaluations_there_to_the_first_stage(solver, noise):
    grid = solver.grid(noise)
    for k, n in zip(solver.switches[1:], solver.visited(noise), strict=True):
        counted = calls(solver, (n,), noise)
        assert counted["a"] == list(grid[:k])
        assert counted["b"] == list(grid[k:])


class Silent:
    """Predicts no noise, and takes no time to."""

    def predict(self, x, timestep, labels=None):
        ones = torch.ones(len(x), dtype=torch.long)
        return Prediction(torch.zeros_like(x), ones, ones)


def calls(solver, edges, noise):
    """The timesteps at which each of the stages a, b, ... was asked."""
    counted = {name: Counting(Silent()) for name in "abc"[: len(edges) + 1]}
    staged = StagedDenoiser(StageSchedule(edges, tuple(counted), noise), counted)
    sample(staged, solver, noise, SHAPE, range(2), 0, 2)
    return {name: one.timesteps for name, one in counted.items()}


def test_a_step_of_heun_across_an_edge_has_its_first_evaluation_before_and_its_second_behind(noise):
    solver = Solver("heun", 4)
    first, second, third, fourth = solver.visited(noise)
    counted = calls(solver, ((first + second) / 2,), noise)
    assert counted == {"a": [first], "b": [second, second, third, third, fourth, fourth]}
    # an edge on the second one's timestep: it, and the next step's first evaluation there, are still before
    counted = calls(solver, (second,), noise)
    assert counted == {"a": [first, second, second], "b": [third, third, fourth, fourth]}
    # two edges within one step
    counted = calls(solver, (second + 1e-3, second), noise)
    assert counted == {"a": [first], "b": [second, second], "c": [third, third, fourth, fourth]}


def test_inner_evaluations_of_a_singlestep_solver_have_the_stage_of_their_own_timestep(noise):
    # 3 + 3 + 1 + 1 evaluations a step; the edges lie within the first step and within the second
    counted = calls(Solver("dpmsolver++3s", 8), (800.0, 499.0), noise)
    assert counted == {"a": [999.0, 874.0], "b": [749.0, 624.0, 499.0], "c": [374.0, 249.0, 124.0]}


def test_three_stages_serve_their_own_ranges(make_uvit, noise):
    counted = {name: Counting(make_uvit(seed)) for seed, name in enumerate("abc")}
    staged = StagedDenoiser(StageSchedule((700.0, 300.0), ("a", "b", "c"), noise), counted)
    sample(staged, Solver("ddim", 10), noise, SHAPE, range(2), 0, 2)
    assert counted["a"].timesteps == [999.0, 899.0, 799.0]
    assert counted["b"].timesteps == [699.0, 599.0, 499.0, 399.0]
    assert counted["c"].timesteps == [299.0, 199.0, 99.0]


@pytest.mark.parametrize("solver", SOLVERS + DROPPING, ids=lambda solver: solver.label)
@pytest.mark.parametrize("counts", [(2, 3, 3), (4, 0, 4), (0, 5, 3)])
def test_three_networks_equal_three_networks_in_a_plain_loop(solver, counts, make_uvit, noise, monkeypatch):
    networks = {
        name: make_uvit(seed, depth=depth) for seed, (name, depth) in enumerate({"a": 1, "b": 3, "c": 5}.items())
    }
    counted = {name: Counting(network) for name, network in networks.items()}
    schedule = StageSchedule.from_counts(counts, solver.visited(noise), "abc", noise)
    samples = sample(StagedDenoiser(schedule, counted), solver, noise, SHAPE, IMAGES, SEED, 8)
    served = [networks[name] for name in schedule.assignment(solver.grid(noise))]
    assert [counted[name].network for name in "abc" for _ in range(counted[name].calls)] == served
    expected = plain_loop(solver, served, noise, monkeypatch)
    torch.testing.assert_close(samples.images, expected, rtol=tolerance(solver), atol=tolerance(solver))


@pytest.mark.parametrize("solver", [Solver("ddim", STEPS), Solver("heun", STEPS)], ids=lambda solver: solver.label)
def test_four_networks_of_unlike_patches_and_widths_serve_in_turn(solver, make_uvit, noise, monkeypatch):
    shapes = {"a": (8, 16, 1), "b": (4, 32, 3), "c": (2, 16, 5), "d": (4, 48, 7)}
    networks = {
        name: make_uvit(seed, patch=patch, width=width, depth=depth)
        for seed, (name, (patch, width, depth)) in enumerate(shapes.items())
    }
    counted = {name: Counting(network) for name, network in networks.items()}
    schedule = StageSchedule.from_counts((1, 2, 3, 2), solver.visited(noise), "abcd", noise)
    samples = sample(StagedDenoiser(schedule, counted), solver, noise, SHAPE, IMAGES, SEED, 8)
    served = [networks[name] for name in schedule.assignment(solver.grid(noise))]
    assert [counted[name].network for name in "abcd" for _ in range(counted[name].calls)] == served
    expected = plain_loop(solver, served, noise, monkeypatch)
    torch.testing.assert_close(samples.images, expected, rtol=tolerance(solver), atol=tolerance(solver))
    macs = sum(network.macs for network in served) / 1e9
    assert samples.trace.gmacs_per_image == pytest.approx(macs)


def test_edges_on_timesteps_and_a_stage_between_evaluations(make_uvit, noise):
    solver = Solver("ddim", 10)
    for edges, calls in {(799.0, 399.0): (3, 4, 3), (799.0, 798.0): (3, 0, 7), (850.0, 820.0): (2, 0, 8)}.items():
        counted = {name: Counting(make_uvit(seed)) for seed, name in enumerate("abc")}
        sample(
            StagedDenoiser(StageSchedule(edges, ("a", "b", "c"), noise), counted), solver, noise, SHAPE, range(2), 0, 2
        )
        assert tuple(counted[name].calls for name in "abc") == calls


def test_labels_reach_the_network_that_serves(make_uvit, noise):
    network = make_uvit(num_classes=3)
    staged = StagedDenoiser(StageSchedule((500.0,), ("a", "b"), noise), {"a": network, "b": network})
    x, labels = torch.randn(3, *SHAPE), torch.tensor([0, 1, 2])
    for timestep in (900.0, 100.0):
        assert torch.equal(staged.predict(x, timestep, labels).eps, network.predict(x, timestep, labels).eps)


def test_a_schedule_that_names_an_absent_denoiser_is_refused(deep, noise):
    schedule = StageSchedule((500.0,), ("shallow", "deep"), noise)
    with pytest.raises(InputError, match=r"names \['shallow'\], but only \['deep'\]"):
        StagedDenoiser(schedule, {"deep": deep})
