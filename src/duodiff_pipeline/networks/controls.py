"""Controls: what spends about as much as a two-stage plan without its idea. The papers leave them out."""

from ..diffusion.solvers import Solver
from ..diffusion.stages import StageSchedule
from .plans import NetworkBank, SamplingPlan, single


def plan_name(role: str, solver: Solver, k: int | None = None) -> str:
    """As it stands in records and figures: "duodiff ddim 20 k=5"."""
    return f"{role} {solver.label} {solver.steps}" + (f" k={k}" if k is not None else "")


def reversed_order(plan: SamplingPlan) -> SamplingPlan:
    """The same evaluations by the same two networks, the last one's first."""
    first, last = plan.schedule.serves
    k = len(plan.grid) - (plan.switch or 0)
    schedule = StageSchedule.from_switch(k, plan.grid, (last, first), plan.schedule.noise)
    return SamplingPlan(plan_name("control reversed", plan.solver, k), plan.solver, schedule)


def throughout(what: str, network: str, plan: SamplingPlan, bank: NetworkBank) -> SamplingPlan:
    """One network with as many steps as come nearest to the cost of a plan; the solvers evaluate once a step."""
    steps = max(1, round(bank.static_gmacs(plan) * 1e9 / bank.network(network).macs))
    solver = Solver(plan.solver.name, min(steps, plan.schedule.noise.timesteps), plan.solver.eta)
    return single(plan_name(f"control {what}", solver), network, solver, plan.schedule.noise)
