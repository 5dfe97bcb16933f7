"""The search space: a trial's parameters to a sampling plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, cast

from optuna.trial import Trial

from ..diffusion.noise import NoiseSchedule
from ..diffusion.solvers import History, Solver, SolverName
from ..diffusion.stages import StageSchedule
from ..networks.plans import SamplingPlan

BY_SWITCH = "switch"  # the edges lie where the trial's own switches say
ONE_STAGE = "one stage"  # there is no edge
EXIT_SCHEDULE = "exit schedule"  # one network serves, by the parts that an exit schedule names


@dataclass(frozen=True)
class Candidate:
    """Edges that a clustering of the timesteps proposes.

    label: the method with its hyper-parameters, of its own for every candidate; edges: noise to data, one less than
    there are stages.
    """

    label: str
    method: str
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Proposal:
    """What a trial comes to: stages that serve no evaluation are left out of its plan.

    edges_by: where its edges come from, "switch", the method of a candidate, "exit schedule", or "one stage".
    """

    plan: SamplingPlan
    edges_by: str


@dataclass(frozen=True)
class SearchSpace:
    """What a trial chooses from.

    backbones: in the order in which they may serve, noise to data; any of them, in that order, make a schedule.
    history: of multistep solvers, where there is an edge to carry it over; lowest: of those that learnt only the noisy
    end of the timesteps, the first timestep of it. They serve first, and no further, before others that learnt all.
    exit_schedules: those of ASE that a trial may choose instead, cheapest first.
    """

    solvers: Sequence[SolverName]
    steps: Sequence[int]
    backbones: Sequence[str]
    candidates: Sequence[Candidate]
    noise: NoiseSchedule
    history: Sequence[History] = ("carried",)
    lowest: Mapping[str, float] = field(default_factory=dict)
    exit_schedules: Sequence[StageSchedule] = ()

    def suggest(self, trial: Trial) -> Proposal:
        """Solver, steps, who serves, and between several the history and the edges, by switches or by a clustering."""
        name = trial.suggest_categorical("solver", list(self.solvers))
        solver = Solver(cast(SolverName, name), trial.suggest_categorical("steps", list(self.steps)))
        orders = {_shown(order): order for order in self._orders()}
        served_by = trial.suggest_categorical("serves", [*orders, *([EXIT_SCHEDULE] if self.exit_schedules else [])])
        several = served_by == EXIT_SCHEDULE or len(orders[served_by]) > 1
        if several and solver.has_history:
            choose = len(self.history) > 1
            history = trial.suggest_categorical("history", list(self.history)) if choose else self.history[0]
            solver = replace(solver, history=cast(History, history))
        if served_by == EXIT_SCHEDULE:
            which = trial.suggest_int(EXIT_SCHEDULE, 0, len(self.exit_schedules) - 1)
            edges_by, schedule = EXIT_SCHEDULE, self.exit_schedules[which].serving(solver.grid(self.noise))
        else:
            edges_by, schedule = self._suggest_schedule(trial, orders[served_by], solver)
        return Proposal(SamplingPlan(f"trial {trial.number}", solver, schedule), edges_by)

    def anchors(self) -> list[dict[str, Any]]:
        """What every study tries first: each backbone alone, and all in turn.

        Each alone at every solver and number of steps: without that a schedule could pass for part of the front that
        some network alone beats. All in equal parts of each solver's most steps, and with those the exit schedule of
        middle cost: the sampler's start with schedules.
        """
        alone = [
            {"solver": solver, "steps": steps, "serves": _shown([backbone])}
            for solver in self.solvers
            for steps in self.steps
            for backbone in reversed(self._everywhere)
        ]
        stages = len(self._everywhere)
        parts: dict[str, Any] = {"serves": _shown(self._everywhere), f"edges of {stages} stages by": BY_SWITCH}
        parts |= {f"share of stage {j}": 1 / (stages + 1 - j) for j in range(1, stages)}
        starts = [parts]
        if self.exit_schedules:
            starts.append({"serves": EXIT_SCHEDULE, EXIT_SCHEDULE: len(self.exit_schedules) // 2})
        history = {"history": self.history[0]} if len(self.history) > 1 else {}
        most = {"steps": max(self.steps), **history}
        return [*alone, *({"solver": solver, **most, **start} for start in starts for solver in self.solvers)]

    @property
    def _everywhere(self) -> list[str]:
        """The backbones that learnt all timesteps."""
        return [backbone for backbone in self.backbones if backbone not in self.lowest]

    def _orders(self) -> list[tuple[str, ...]]:
        counts = range(1, len(self.backbones) + 1)
        orders = [order for count in counts for order in combinations(self.backbones, count)]
        return [order for order in orders if set(order[1:] or order).isdisjoint(self.lowest)]

    def _suggest_schedule(self, trial: Trial, serves: tuple[str, ...], solver: Solver) -> tuple[str, StageSchedule]:
        stages = len(serves)
        if stages == 1:
            return ONE_STAGE, StageSchedule((), serves, self.noise)
        lowest = self.lowest.get(serves[0], 0)
        candidates = [c for c in self.candidates if len(c.edges) == stages - 1 and c.edges[0] >= lowest]
        methods = sorted({candidate.method for candidate in candidates})
        # choices that are fewer go by another name: of one name Optuna expects the same ones
        after = f" after {serves[0]}" if lowest else ""
        edges_by = trial.suggest_categorical(f"edges of {stages} stages{after} by", [BY_SWITCH, *methods])
        if edges_by == BY_SWITCH:
            timesteps = solver.visited(self.noise)  # not the grid: evaluations at one timestep are not parted
            counts = _suggest_counts(trial, stages, len(timesteps), sum(n >= lowest for n in timesteps))
            return edges_by, StageSchedule.from_counts(counts, timesteps, serves, self.noise)
        edges = {candidate.label: candidate.edges for candidate in candidates if candidate.method == edges_by}
        label = trial.suggest_categorical(f"{edges_by} of {stages} stages{after}", list(edges))
        return edges_by, StageSchedule(edges[label], serves, self.noise).serving(solver.grid(self.noise))


def _suggest_counts(trial: Trial, stages: int, timesteps: int, first_at_most: int) -> list[int]:
    """How many of a solver's timesteps each stage serves; at least one while they last, the first no more than it may.

    Each stage but the last takes a share of what is left beyond one timestep for every later stage. So every proposal
    is valid, and a share means the same for every solver, number of steps and number of stages: all trials teach it.
    """
    counts: list[int] = []
    left = timesteps
    for later in range(stages - 1, 0, -1):
        share = trial.suggest_float(f"share of stage {stages - later}", 0, 1)
        most = max(left - later, 1) if counts else min(max(left - later, 1), first_at_most)
        counts.append(min(1 + int(share * most), most, left))
        left -= counts[-1]
    return [*counts, left]


def _shown(backbones: Sequence[str]) -> str:
    """Optuna's choices are plain values."""
    return ", ".join(backbones)
