"""Staged denoisers against diffusers' schedulers driven in a plain loop, with networks that differ."""

from itertools import pairwise

import diffusers.schedulers.scheduling_ddpm
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

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
    Solver("dpmsolver++", STEPS),
]


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


def plain_loop(solver, networks, monkeypatch):
    """diffusers' own scheduler, and one network for each evaluation."""
    betas = np.linspace(1e-4, 0.02, 1000)
    options = {"num_train_timesteps": 1000, "trained_betas": betas, "timestep_spacing": "trailing"}
    if solver.name == "ddpm":
        scheduler = DDPMScheduler(**options, clip_sample=False, variance_type="fixed_small")
    elif solver.name == "ddim":
        scheduler = DDIMScheduler(**options, clip_sample=False, set_alpha_to_one=True)
    else:
        scheduler = DPMSolverMultistepScheduler(**options, solver_order=2, final_sigmas_type="zero")
    scheduler.set_timesteps(solver.steps)
    x = image_noise(SEED, range(8), SHAPE, 0)
    with torch.inference_mode():
        for i, (n, network) in enumerate(zip(scheduler.timesteps, networks, strict=True)):
            z, step = image_noise(SEED, range(8), SHAPE, i + 1), {}
            monkeypatch.setattr(diffusers.schedulers.scheduling_ddpm, "randn_tensor", lambda *_, z=z, **__: z)
            if solver.name == "ddim":
                step = {"eta": solver.eta, "variance_noise": z if solver.eta else None}
            x = scheduler.step(network(x, n.repeat(8)), n, x, **step).prev_sample
    return x[2:8]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.label)
def test_k_of_nfe_equals_networks_in_a_plain_loop(solver, shallow, deep, noise, monkeypatch):
    images = []
    for k in range(STEPS + 1):
        counted = {"shallow": Counting(shallow), "deep": Counting(deep)}
        schedule = StageSchedule.from_switch(k, solver.grid(noise), ("shallow", "deep"), noise)
        samples = sample(StagedDenoiser(schedule, counted), solver, noise, SHAPE, IMAGES, SEED, 8)
        assert (counted["shallow"].calls, counted["deep"].calls) == (k, STEPS - k)
        assert counted["shallow"].timesteps + counted["deep"].timesteps == list(solver.grid(noise))
        assert samples.trace.stages.tolist() == [0] * k + [1] * (STEPS - k)
        assert samples.trace.exit_depth.tolist() == [[3] * 6] * k + [[5] * 6] * (STEPS - k)
        # DDPM's own formula and DDIM's at eta = 1 are one, but round differently
        tolerance = 2e-5 if solver.name == "ddpm" else 1e-6
        expected = plain_loop(solver, [shallow] * k + [deep] * (STEPS - k), monkeypatch)
        torch.testing.assert_close(samples.images, expected, rtol=tolerance, atol=tolerance)
        images.append(samples.images)
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(images))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.label)
def test_k_0_and_k_of_nfe_are_the_bare_networks_bit_for_bit(solver, shallow, deep, noise):
    for k, bare in ((0, deep), (STEPS, shallow)):
        schedule = StageSchedule.from_switch(k, solver.grid(noise), ("shallow", "deep"), noise)
        staged = StagedDenoiser(schedule, {"shallow": shallow, "deep": deep})
        images = [sample(denoiser, solver, noise, SHAPE, IMAGES, SEED, 8).images for denoiser in (staged, bare)]
        assert torch.equal(*images)


def test_one_network_in_every_stage_equals_the_network_alone(deep, noise):
    solver = Solver("dpmsolver++", 7)
    schedule = StageSchedule((800.0, 450.0, 450.0 - 1e-9), ("a", "b", "c", "d"), noise)
    staged = StagedDenoiser(schedule, dict.fromkeys("abcd", deep))
    images = [sample(denoiser, solver, noise, SHAPE, range(4), 0, 4).images for denoiser in (staged, deep)]
    assert torch.equal(*images)


def test_an_edge_on_a_timestep_leaves_that_evaluation_to_the_first_stage(shallow, deep, noise):
    solver = Solver("ddim", STEPS)
    for k, n in enumerate(solver.grid(noise), start=1):
        counted = {"shallow": Counting(shallow), "deep": Counting(deep)}
        sample(
            StagedDenoiser(StageSchedule((n,), ("shallow", "deep"), noise), counted),
            solver,
            noise,
            SHAPE,
            range(2),
            0,
            2,
        )
        assert (counted["shallow"].calls, counted["deep"].calls) == (k, STEPS - k)


def test_three_stages_serve_their_own_ranges(make_uvit, noise):
    counted = {name: Counting(make_uvit(seed)) for seed, name in enumerate("abc")}
    staged = StagedDenoiser(StageSchedule((700.0, 300.0), ("a", "b", "c"), noise), counted)
    sample(staged, Solver("ddim", 10), noise, SHAPE, range(2), 0, 2)
    assert counted["a"].timesteps == [999.0, 899.0, 799.0]
    assert counted["b"].timesteps == [699.0, 599.0, 499.0, 399.0]
    assert counted["c"].timesteps == [299.0, 199.0, 99.0]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.label)
@pytest.mark.parametrize("counts", [(2, 3, 3), (1, 6, 1), (4, 0, 4), (0, 5, 3), (3, 5, 0)])
def test_three_networks_equal_three_networks_in_a_plain_loop(solver, counts, make_uvit, noise, monkeypatch):
    networks = {
        name: make_uvit(seed, depth=depth) for seed, (name, depth) in enumerate({"a": 1, "b": 3, "c": 5}.items())
    }
    counted = {name: Counting(network) for name, network in networks.items()}
    schedule = StageSchedule.from_counts(counts, solver.grid(noise), "abc", noise)
    samples = sample(StagedDenoiser(schedule, counted), solver, noise, SHAPE, IMAGES, SEED, 8)
    assert tuple(counted[name].calls for name in "abc") == counts
    served = [networks[name] for name, count in zip("abc", counts, strict=True) for _ in range(count)]
    tolerance = 2e-5 if solver.name == "ddpm" else 1e-6
    expected = plain_loop(solver, served, monkeypatch)
    torch.testing.assert_close(samples.images, expected, rtol=tolerance, atol=tolerance)


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
