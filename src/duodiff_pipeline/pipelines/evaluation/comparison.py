"""What is evaluated: networks alone, chosen schedules, AdaDiff, what serves by its parts, controls at equal cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from ...config import Ase, Evaluation
from ...diffusion.noise import NoiseSchedule
from ...diffusion.solvers import History, Solver, SolverName
from ...diffusion.stages import StageSchedule
from ...errors import InputError
from ...networks.backbone import network_of, part_of
from ...networks.controls import plan_name, reversed_order, switched, throughout
from ...networks.exit_schedule import ExitSchedule
from ...networks.plans import NetworkBank, SamplingPlan, single

Role = Literal["deep", "shallow", "duodiff", "adadiff", "ase", "multistage", "front", "control"]
ASE = "ase"


@dataclass(frozen=True)
class EvaluatedPlan:
    """role: what it is in the comparison; control_of: the plan whose cost a control matches; whole: all of a network
    that another plan serves by its parts, whose seconds are held against it.

    `front`: it lies on the front of the search, and is measured again without controls of its own.
    """

    plan: SamplingPlan
    role: Role
    control_of: str | None = None
    whole: bool = False

    @property
    def timed(self) -> bool:
        """Whether its seconds are of interest at every batch."""
        return self.whole or self.role not in ("control", "front")


def evaluated_plans(
    chosen: Sequence[dict[str, Any]],
    settings: Evaluation,
    bank: NetworkBank,
    backbones: Sequence[str],
    noise: NoiseSchedule,
    exit_patience: int = 0,
    ase: Ase | None = None,
) -> list[EvaluatedPlan]:
    """Every plan once, the baseline first.

    backbones: those that the search chose from, noise to data; exit_patience: of AdaDiff; ase: where there is one.
    """
    everywhere = [name for name in backbones if not bank.backbones[name].header.timestep_range[0]]
    base, first, last = settings.solver.solver(), everywhere[0], everywhere[-1]
    plain = ((first, last), tuple(everywhere))  # who serves goes without saying
    plans = [
        EvaluatedPlan(single(plan_name("deep", base), last, base, noise), "deep"),
        EvaluatedPlan(single(plan_name("shallow", base), first, base, noise), "shallow"),
    ]
    by_ase = [choice for choice in _checked(chosen) if ase and ASE in map(network_of, choice["serves"])]
    by_decoders = [choice for choice in chosen if choice not in by_ase and part_of(choice["serves"][0]) is not None]
    for choice in chosen:
        if choice in (*by_ase, *by_decoders):
            continue
        solver = Solver.from_dict(choice)
        schedule = StageSchedule(tuple(choice["edges"]), tuple(choice["serves"]), noise)
        if len(schedule.serves) == 1:
            (network,) = schedule.serves
            role: Role = "deep" if network == last else "shallow" if network == first else "front"
            alone = plan_name(network if role == "front" else role, solver)
            plans.append(EvaluatedPlan(single(alone, network, solver, noise), role))
            continue
        duodiff, named = SamplingPlan("", solver, schedule), schedule.serves not in plain
        name = plan_name("duodiff", solver, duodiff.switches, schedule.serves if named else ())
        duodiff = replace(duodiff, name=name)
        if not choice.get("controls", True):
            plans.append(EvaluatedPlan(duodiff, "front"))
            continue
        controls = [throughout("fewer steps", last, duodiff, bank)]
        if schedule.serves[0] in everywhere:
            controls.append(reversed_order(duodiff, named))
        if settings.middle is not None:
            controls.append(throughout("middle", settings.middle, duodiff, bank))
        plans.append(EvaluatedPlan(single(plan_name("deep", solver.alone), last, solver, noise), "deep"))
        plans.append(EvaluatedPlan(duodiff, "duodiff"))
        plans += [EvaluatedPlan(control, "control", duodiff.name) for control in controls]
    exit_solvers = [base, *(solver.solver() for solver in (ase.solvers if ase else ()))]
    for solver, threshold in product(exit_solvers, settings.exit_thresholds):
        schedule = StageSchedule((), (bank.exits_of or last,), noise)
        name = f"{plan_name('adadiff', solver)} u<={threshold:g}"
        plans.append(EvaluatedPlan(SamplingPlan(name, solver, schedule, threshold, exit_patience), "adadiff"))
    if ase is not None:
        trained = ExitSchedule.from_dict(bank.stored(ASE).header.exit_schedule or {}).stages(ASE)
        exits: list[tuple[str, Solver, StageSchedule]] = [
            (ase.schedule, solver.solver(), trained) for solver in ase.solvers
        ]
        for choice in by_ase:
            searched = StageSchedule(tuple(choice["edges"]), tuple(choice["serves"]), noise)
            exits.append(("searched", Solver.from_dict(choice), searched))
        for label, solver, schedule in exits:
            plans += _by_parts("ase", f"{ASE} {label}", solver, schedule, ase.backbone, (first, last), settings, bank)
    for choice in by_decoders:
        name = network_of(choice["serves"][0])
        schedule = StageSchedule(tuple(choice["edges"]), tuple(choice["serves"]), noise)
        plans += _by_parts("multistage", name, Solver.from_dict(choice), schedule, last, (first, last), settings, bank)
    once: dict[tuple[Any, ...], EvaluatedPlan] = {}
    for evaluated in plans:
        plan = evaluated.plan
        key = (plan.solver, plan.runs, plan.exit_threshold)
        earlier = once.setdefault(key, evaluated)
        if evaluated.timed and not earlier.timed:
            once[key] = replace(earlier, whole=True)
    by_name: dict[str, EvaluatedPlan] = {}
    for evaluated in once.values():
        if (other := by_name.setdefault(evaluated.plan.name, evaluated)) is not evaluated:
            raise InputError(
                f"chosen_schedules: {evaluated.plan.name} would be two plans, {other.plan.runs} and "
                f"{evaluated.plan.runs}: keep one of them"
            )
    return list(by_name.values())


def _by_parts(
    role: Role,
    called: str,
    solver: Solver,
    schedule: StageSchedule,
    backbone: str,
    ends: tuple[str, str],
    settings: Evaluation,
    bank: NetworkBank,
) -> list[EvaluatedPlan]:
    """The backbone with the same solver and steps, what serves by its parts, and what costs as much as it.

    ends: the networks of DuoDiff.
    """
    first, last = ends
    plan = SamplingPlan("", solver, schedule.serving(solver.grid(schedule.noise)))
    plan = replace(plan, name=plan_name(called, plan.solver))
    alone = plan_name("deep" if backbone == last else f"control {backbone}", solver.alone)
    whole = single(alone, backbone, solver, schedule.noise)
    controls = [throughout("fewer steps", backbone, plan, bank), switched(first, last, plan, bank)]
    if settings.middle is not None:
        controls.append(throughout("middle", settings.middle, plan, bank))
    return [
        EvaluatedPlan(whole, "deep") if backbone == last else EvaluatedPlan(whole, "control", plan.name, whole=True),
        EvaluatedPlan(plan, role),
        *(EvaluatedPlan(control, "control", plan.name) for control in controls),
    ]


class _Chosen(BaseModel):
    """What is needed of a chosen schedule."""

    solver: SolverName
    steps: int
    history: History = "carried"
    controls: bool = True
    edges: tuple[float, ...]
    serves: tuple[str, ...]


def _checked(chosen: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """As given; raises InputError where something is missing or mistyped, for people edit this file by hand."""
    try:
        TypeAdapter(list[_Chosen]).validate_python(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise InputError(f"chosen_schedules: {where}{first['msg']}, not {first['input']!r}") from None
    return chosen
