"""What is evaluated: the networks alone, the chosen schedules, AdaDiff, and the controls at the schedules' cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...config import Evaluation
from ...diffusion.noise import NoiseSchedule
from ...diffusion.solvers import Solver
from ...diffusion.stages import StageSchedule
from ...networks.plans import NetworkBank, SamplingPlan, single

Role = Literal["deep", "shallow", "duodiff", "adadiff", "control"]


@dataclass(frozen=True)
class EvaluatedPlan:
    """role: what it is in the comparison; control_of: the plan whose cost a control matches."""

    plan: SamplingPlan
    role: Role
    control_of: str | None = None


def evaluated_plans(
    chosen: Sequence[dict[str, Any]],
    settings: Evaluation,
    bank: NetworkBank,
    first: str,
    last: str,
    noise: NoiseSchedule,
) -> list[EvaluatedPlan]:
    """Every plan once, the baseline first; names are unique."""
    base = settings.solver.solver()
    plans = [
        EvaluatedPlan(single(f"deep {_tag(base)}", last, base, noise), "deep"),
        EvaluatedPlan(single(f"shallow {_tag(base)}", first, base, noise), "shallow"),
    ]
    for choice in chosen:
        solver = Solver(choice["solver"], choice["steps"])
        schedule = StageSchedule(tuple(choice["edges"]), tuple(choice["serves"]), noise)
        duodiff = SamplingPlan(f"duodiff {_tag(solver)} k={choice['k']}", solver, schedule)
        plans.append(EvaluatedPlan(single(f"deep {_tag(solver)}", last, solver, noise), "deep"))
        plans.append(EvaluatedPlan(duodiff, "duodiff"))
        plans += [
            EvaluatedPlan(control, "control", duodiff.name)
            for control in _controls(duodiff, settings, bank, first, last)
        ]
    for threshold in settings.exit_thresholds:
        adaptive = SamplingPlan(
            f"adadiff {_tag(base)} u<={threshold:g}",
            base,
            StageSchedule((), (bank.exits_of or last,), noise),
            threshold,
        )
        plans.append(EvaluatedPlan(adaptive, "adadiff"))
    once: dict[tuple[Any, ...], EvaluatedPlan] = {}
    for evaluated in plans:
        plan = evaluated.plan
        once.setdefault((plan.solver, plan.runs, plan.exit_threshold), evaluated)
    return list(once.values())


def _controls(
    duodiff: SamplingPlan, settings: Evaluation, bank: NetworkBank, first: str, last: str
) -> list[SamplingPlan]:
    """At the cost of a DuoDiff: deep with fewer steps, deep first, one network of middle depth throughout."""
    noise, solver, k = duodiff.schedule.noise, duodiff.solver, duodiff.switch or 0
    controls = [_at_cost_of(duodiff, "fewer steps", last, bank)]
    reversed_k = len(duodiff.grid) - k
    schedule = StageSchedule.from_switch(reversed_k, duodiff.grid, (last, first), noise)
    controls.append(SamplingPlan(f"control reversed {_tag(solver)} k={reversed_k}", solver, schedule))
    if settings.middle is not None:
        controls.append(_at_cost_of(duodiff, "middle", settings.middle, bank))
    return controls


def _at_cost_of(duodiff: SamplingPlan, what: str, network: str, bank: NetworkBank) -> SamplingPlan:
    """One network with as many steps as come nearest to the cost of a DuoDiff (these solvers evaluate once a step)."""
    steps = max(1, round(bank.static_gmacs(duodiff) * 1e9 / bank.network(network).macs))
    solver = Solver(duodiff.solver.name, steps, duodiff.solver.eta)
    return single(f"control {what} {_tag(solver)}", network, solver, duodiff.schedule.noise)


def _tag(solver: Solver) -> str:
    return f"{solver.label} {solver.steps}"
