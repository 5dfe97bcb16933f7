"""Controls cost what their plan costs, and are what they say."""

import pytest

from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.networks.controls import plan_name, reversed_order, switched, throughout
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


@pytest.mark.parametrize("counts", [(3, 4, 13), (13, 4, 3), (1, 18, 1)])
@pytest.mark.parametrize("name", ["ddim", "heun"])
def test_duodiff_at_the_cost_of_another_plan_is_the_nearest_of_its_switches(bank, noise, counts, name):
    solver = Solver(name, 20 if name == "ddim" else 11)
    timesteps, networks = solver.visited(noise), ("shallow", "middle", "deep")
    counts = counts if name == "ddim" else (2, 4, 5)
    plan = SamplingPlan("", solver, StageSchedule.from_counts(counts, timesteps, networks, noise))
    control = switched("shallow", "deep", plan, bank)
    assert control.solver == plan.solver
    assert control.name == plan_name("control duodiff", solver, control.switches)
    duodiffs = [
        SamplingPlan("", solver, StageSchedule.from_switch(k, plan.grid, ("shallow", "deep"), noise))
        for k in solver.switches[1:-1]
    ]
    apart = [abs(bank.static_gmacs(one) - bank.static_gmacs(plan)) for one in duodiffs]
    assert abs(bank.static_gmacs(control) - bank.static_gmacs(plan)) == pytest.approx(min(apart))


@pytest.mark.parametrize("counts", [(3, 4, 13), (18, 1, 1), (6, 8, 6)])
def test_three_stages_reversed_and_with_one_network_throughout(bank, noise, counts):
    solver = Solver("ddim", 20)
    networks = ("shallow", "middle", "deep")
    plan = SamplingPlan("", solver, StageSchedule.from_counts(counts, solver.grid(noise), networks, noise))
    control = reversed_order(plan)
    assert control.runs == f"{counts[2]} deep, {counts[1]} middle, {counts[0]} shallow"
    assert control.name == f"control reversed ddim 20 k={counts[2]},{counts[2] + counts[1]}"
    assert bank.static_gmacs(control) == pytest.approx(bank.static_gmacs(plan), rel=1e-12)
    assert reversed_order(control).schedule.assignment(plan.grid) == plan.schedule.assignment(plan.grid)
    for network in networks:
        half = bank.network(network).macs / 2e9
        nearest = throughout("x", network, plan, bank)
        assert abs(bank.static_gmacs(nearest) - bank.static_gmacs(plan)) <= half * (1 + 1e-9)


@pytest.mark.parametrize("name", ["heun", "dpmsolver++3s", "unipc"])
@pytest.mark.parametrize("at", [1, 4, 7])
def test_controls_of_every_kind_of_solver(bank, noise, name, at):
    solver = Solver(name, 8)
    k, mirrored = solver.switches[at], solver.switches[8 - at]
    plan = SamplingPlan("", solver, StageSchedule.from_switch(k, solver.grid(noise), ("shallow", "deep"), noise))
    assert reversed_order(plan).switches == (mirrored,)
    assert reversed_order(plan).schedule.serves == ("deep", "shallow")
    nearest = throughout("x", "deep", plan, bank)
    step = (solver.switches[-1] - solver.switches[-2]) * bank.network("deep").macs / 1e9
    if nearest.solver.steps > solver.fewest_steps:
        assert abs(bank.static_gmacs(nearest) - bank.static_gmacs(plan)) <= step / 2 * (1 + 1e-9)


def test_a_dropped_history_belongs_to_what_has_an_edge(bank, noise):
    solver = Solver("unipc", 8, history="dropped")
    plan = SamplingPlan("", solver, StageSchedule((500.0,), ("shallow", "deep"), noise))
    assert reversed_order(plan).solver == solver
    assert reversed_order(plan).name == "control reversed unipc history dropped 8 k=4"
    assert throughout("fewer steps", "deep", plan, bank).name == "control fewer steps unipc 5"
    assert SamplingPlan("", solver, StageSchedule((), ("deep",), noise)).solver == Solver("unipc", 8)


def test_a_name_tells_switches_and_networks():
    solver = Solver("dpmsolver++", 10)
    assert plan_name("deep", solver) == "deep dpmsolver++ 10"
    assert plan_name("duodiff", solver, (5,)) == "duodiff dpmsolver++ 10 k=5"
    assert plan_name("duodiff", solver, (3, 7), ("a", "b", "c")) == "duodiff dpmsolver++ 10 k=3,7 a-b-c"


def test_one_network_takes_at_least_one_step(bank, noise):
    solver = Solver("ddim", 1)
    plan = SamplingPlan("", solver, StageSchedule((0.0,), ("shallow", "deep"), noise))
    assert throughout("x", "deep", plan, bank).runs == "1 deep"
