"""Controls: what spends about as much as a plan of several stages without its idea. The papers leave them out."""

from collections.abc import Sequence
from dataclasses import replace

from ..diffusion.solvers import Solver
from ..diffusion.stages import StageSchedule
from .plans import NetworkBank, SamplingPlan, single


def plan_name(role: str, solver: Solver, switches: Sequence[int] = (), networks: Sequence[str] = ()) -> str:
    """As it stands in records and figures: "duodiff ddim 20 k=5", "duodiff ddim 20 k=3,7".

    networks: who serves, where that does not go without saying: "duodiff ddim 20 k=5 middle-deep".
    """
    parts = [f"{role} {solver.label} {solver.steps}"]
    parts += [f"k={','.join(map(str, switches))}"] if switches else []
    parts += ["-".join(networks)] if networks else []
    return " ".join(parts)


def reversed_order(plan: SamplingPlan, named: bool = False) -> SamplingPlan:
    """As many timesteps by the same networks, the last one's first; named: with its networks in its name."""
    timesteps = plan.solver.visited(plan.schedule.noise)  # not the grid: evaluations at one timestep are not parted
    counts, serves = plan.schedule.counts(timesteps)[::-1], plan.schedule.serves[::-1]
    schedule = StageSchedule.from_counts(counts, timesteps, serves, plan.schedule.noise)
    control = SamplingPlan("", plan.solver, schedule)
    return replace(control, name=plan_name("control reversed", plan.solver, control.switches, serves if named else ()))


def switched(first: str, last: str, plan: SamplingPlan, bank: NetworkBank) -> SamplingPlan:
    """DuoDiff of two networks with the solver and steps of a plan, at the switch that comes nearest to its cost."""
    noise, grid = plan.schedule.noise, plan.grid
    duodiffs = [
        SamplingPlan("", plan.solver, StageSchedule.from_switch(k, grid, (first, last), noise).serving(grid))
        for k in plan.solver.switches
    ]
    cost = bank.static_gmacs(plan)
    nearest = min(duodiffs, key=lambda duodiff: abs(bank.static_gmacs(duodiff) - cost))
    return replace(nearest, name=plan_name("control duodiff", nearest.solver, nearest.switches))


def throughout(what: str, network: str, plan: SamplingPlan, bank: NetworkBank) -> SamplingPlan:
    """One network with as many steps as come nearest to the cost of a plan."""
    evaluations = bank.static_gmacs(plan) * 1e9 / bank.macs(network)
    solver = plan.solver.alone.of_evaluations(evaluations, plan.schedule.noise)
    return single(plan_name(f"control {what}", solver), network, solver, plan.schedule.noise)
