"""Controls cost what their plan costs, and are what they say."""

import pytest

from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.networks.controls import reversed_order, throughout
from duodiff_pipeline.networks.plans import NetworkBank, SamplingPlan


@pytest.fixture
def bank(make_uvit, make_stored) -> NetworkBank:
    networks = {"deep": make_uvit(1, depth=5), "middle": make_uvit(2, depth=3), "shallow": make_uvit(3, depth=1)}
    return NetworkBank({name: make_stored(network) for name, network in networks.items()})


def duodiff(k: int, noise) -> SamplingPlan:
    solver = Solver("ddim", 20)
    schedule = StageSchedule.from_switch(k, solver.grid(noise), ("shallow", "deep"), noise)
    return SamplingPlan("duodiff", solver, schedule)


@pytest.mark.parametrize("k", [1, 7, 13, 19])
@pytest.mark.parametrize("network", ["deep", "middle"])
def test_one_network_throughout_costs_the_same_to_half_an_evaluation(bank, noise, k, network):
    plan = duodiff(k, noise)
    control = throughout("x", network, plan, bank)
    assert control.runs == f"{control.solver.steps} {network}"
    assert control.solver.name == plan.solver.name
    half = bank.network(network).macs / 2e9
    assert abs(bank.static_gmacs(control) - bank.static_gmacs(plan)) <= half * (1 + 1e-9)


@pytest.mark.parametrize("k", [1, 7, 19])
def test_the_reversed_order_costs_exactly_the_same(bank, noise, k):
    plan, control = duodiff(k, noise), reversed_order(duodiff(k, noise))
    assert control.runs == f"{20 - k} deep, {k} shallow"
    assert bank.static_gmacs(control) == pytest.approx(bank.static_gmacs(plan), rel=1e-12)


def test_one_network_takes_at_least_one_step(bank, noise):
    solver = Solver("ddim", 1)
    plan = SamplingPlan("", solver, StageSchedule((0.0,), ("shallow", "deep"), noise))
    assert throughout("x", "deep", plan, bank).runs == "1 deep"
