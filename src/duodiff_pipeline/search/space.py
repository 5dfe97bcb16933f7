"""The search space: a trial's parameters to a sampling plan, and which plans are walked through instead of sampled."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product, zip_longest
from typing import Any, cast

import numpy as np
from optuna.trial import FixedTrial, Trial

from ..diffusion.noise import NoiseSchedule
from ..diffusion.solvers import History, Solver, SolverName
from ..diffusion.stages import StageSchedule
from ..networks.plans import SamplingPlan

BY_SWITCH = "switch"  # the edges lie where the trial's own switches say
ONE_STAGE = "one stage"  # there is no edge
# One network serves, by the parts that an exit schedule names, or by the decoders of its stages
EXIT_SCHEDULE, DECODERS = "exit schedule", "decoders"
BY_PARTS = (EXIT_SCHEDULE, DECODERS)
SUGGESTED_BY = ("exit_statistics", "loss_gap", "papers")  # methods that tell where to begin


@dataclass(frozen=True)
class Candidate:
    """Edges that a method proposes.

    label: the method with its hyper-parameters, of its own for every candidate; edges: noise to data, one less than
    there are stages.
    """

    label: str
    method: str
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Proposal:
    """What a trial comes to: stages that serve no evaluation are left out of its plan.

    edges_by: where its edges come from, "switch", the method of a candidate, one of `BY_PARTS`, or "one stage".
    """

    plan: SamplingPlan
    edges_by: str


@dataclass(frozen=True)
class SearchSpace:
    """What a trial chooses from.

    backbones: in the order in which they may serve, noise to data; any of them, in that order, make a schedule.
    history: of multistep solvers, where there is an edge to carry it over; lowest: of those that learnt only the noisy
    end of the timesteps, the first timestep of it. They serve first, and no further, before others that learnt all.
    stages: numbers of stages, none given for any; by_switch: whether edges may lie between any two evaluations; fits:
    whether networks fit into memory together; by_parts: by one of `BY_PARTS`, the schedules of networks that serve by
    their parts, which a trial may choose instead, cheapest first.

    One network throughout and single switches are few enough to `walk` through; the rest is sampled, and `may_sample`
    tells the two apart.
    """

    solvers: Sequence[SolverName]
    steps: Sequence[int]
    backbones: Sequence[str]
    candidates: Sequence[Candidate]
    noise: NoiseSchedule
    history: Sequence[History] = ("carried",)
    lowest: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[int] = ()
    by_switch: bool = True
    fits: Callable[[Sequence[str]], bool] = lambda serves: True
    by_parts: Mapping[str, Sequence[StageSchedule]] = field(default_factory=dict)

    def suggest(self, trial: Trial) -> Proposal:
        """Solver, steps, who serves, and between several the history and the edges, by switches or by a clustering."""
        name = trial.suggest_categorical("solver", list(self.solvers))
        solver = Solver(cast(SolverName, name), trial.suggest_categorical("steps", list(self.steps)))
        orders = {_shown(order): order for order in self.orders}
        served_by = trial.suggest_categorical("serves", [*orders, *self.by_parts])
        several = served_by in self.by_parts or len(orders[served_by]) > 1
        if several and solver.has_history:
            choose = len(self.history) > 1
            history = trial.suggest_categorical("history", list(self.history)) if choose else self.history[0]
            solver = replace(solver, history=cast(History, history))
        if served_by in self.by_parts:
            which = trial.suggest_int(served_by, 0, len(self.by_parts[served_by]) - 1)
            edges_by, schedule = served_by, self.by_parts[served_by][which].serving(solver.grid(self.noise))
        else:
            edges_by, schedule = self._suggest_schedule(trial, orders[served_by], solver)
        return Proposal(SamplingPlan(f"trial {trial.number}", solver, schedule), edges_by)

    def proposal(self, parameters: Mapping[str, Any], number: int = 0) -> Proposal:
        """What the trial of these parameters comes to."""
        return self.suggest(FixedTrial(dict(parameters), number))  # type: ignore[arg-type]

    def may_sample(self, parameter: str, value: Any) -> bool:
        """Whether a sampler may choose this value: none of what `walk` goes through."""
        if parameter == "serves" and value not in self.by_parts:
            order = tuple(str(value).split(", "))
            return len(order) > 2 or (len(order) == 2 and bool(self._methods(order)))
        return value != BY_SWITCH or not parameter.startswith("edges of 2 stages")

    @property
    def samples(self) -> bool:
        """Whether there is more than `walk` goes through."""
        return bool(self.by_parts) or any(self.may_sample("serves", _shown(order)) for order in self.orders)

    def walk(self, cost: Callable[[SamplingPlan], float], at_most: float = float("inf")) -> list[dict[str, Any]]:
        """Parameters of every network alone and every single switch that cost no more than `at_most`, coarse to fine.

        A line is all k of one solver, number of steps and pair of networks, from the dearest down: of every line in
        turn come the dearest, the one in the middle, those at the quarters, the eighths, … Every plan comes once.
        """
        lines, orders = [], set(map(_shown, self.orders))
        for solver, steps, pair, history in self._lines():
            own = [self._parameters(solver, steps, [name], history) for name in reversed(pair)]
            own[1:1] = self._switches(solver, steps, pair, history)
            priced = [(cost(self.proposal(one).plan), one) for one in own if one["serves"] in orders]
            lines.append(_coarse_to_fine([one for price, one in priced if price <= at_most]))
        return self.distinct(one for turn in zip_longest(*lines) for one in turn if one is not None)

    def anchors(self) -> list[dict[str, Any]]:
        """Parameters of what every front is held against: each network alone, what methods suggest, and equal parts.

        Each alone at every solver and number of steps: without that a schedule could pass for part of the front that
        some network alone beats. What exit statistics, the loss gap and the papers suggest with the first solver's most
        steps; with each solver's, all networks in equal parts, and of what serves by parts that of middle cost: the
        sampler's start with schedules.
        """
        most = max(self.steps)
        wanted = [
            self._parameters(solver, steps, [backbone])
            for solver, steps in product(self.solvers, self.steps)
            for backbone in reversed(self._everywhere)
        ]
        for candidate in self.candidates:
            stages = len(candidate.edges) + 1
            if candidate.method in SUGGESTED_BY and stages <= len(self._everywhere):
                serves = [
                    self._everywhere[i] for i in np.linspace(0, len(self._everywhere) - 1, stages).round().astype(int)
                ]
                by = {f"edges of {stages} stages by": candidate.method}
                edges = {f"{candidate.method} of {stages} stages": candidate.label}
                wanted.append(self._parameters(self.solvers[0], most, serves) | by | edges)
        stages = len(self._everywhere)
        if self.by_switch and stages > 1:
            parts = {f"share of stage {j}": 1 / (stages + 1 - j) for j in range(1, stages)}
            by = {f"edges of {stages} stages by": BY_SWITCH}
            wanted += [self._parameters(solver, most, self._everywhere) | by | parts for solver in self.solvers]
        for kind, schedules in self.by_parts.items():
            middle = {"serves": kind, kind: len(schedules) // 2}
            several = [kind] * 2  # parts serve in turn, whatever their number
            wanted += [self._parameters(solver, most, several) | middle for solver in self.solvers]
        orders = {*self.by_parts, *map(_shown, self.orders)}
        return self.distinct(one for one in wanted if one["serves"] in orders)

    def distinct(self, wanted: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The first of all parameters that come to the same plan."""
        once: dict[tuple[Solver, str], dict[str, Any]] = {}
        for parameters in wanted:
            plan = self.proposal(parameters).plan
            once.setdefault((plan.solver, plan.runs), parameters)
        return list(once.values())

    @property
    def orders(self) -> list[tuple[str, ...]]:
        """Who may serve in turn: within the numbers of stages and the memory, and no one where he learnt nothing."""
        counts = [n for n in range(1, len(self.backbones) + 1) if not self.stages or n in self.stages]
        orders = [order for count in counts for order in combinations(self.backbones, count)]
        orders = [order for order in orders if set(order[1:] or order).isdisjoint(self.lowest) and self.fits(order)]
        return [order for order in orders if len(order) == 1 or self.by_switch or self._methods(order)]

    @property
    def _everywhere(self) -> list[str]:
        """The backbones that learnt all timesteps."""
        return [backbone for backbone in self.backbones if backbone not in self.lowest]

    def _methods(self, serves: Sequence[str]) -> list[str]:
        """That propose edges between these."""
        return sorted({candidate.method for candidate in self._candidates(serves)})

    def _candidates(self, serves: Sequence[str]) -> list[Candidate]:
        lowest = self.lowest.get(serves[0], 0)
        return [c for c in self.candidates if len(c.edges) == len(serves) - 1 and c.edges[0] >= lowest]

    def _lines(self) -> Iterator[tuple[SolverName, int, tuple[str, ...], History]]:
        """Solver, steps, two networks and history of every line; the outermost networks come first."""
        pairs = sorted(
            combinations(self.backbones, 2), key=lambda pair: pair != (self._everywhere[0], self.backbones[-1])
        )
        for pair, solver, steps in product(pairs, self.solvers, self.steps):
            for history in self.history if Solver(solver, steps).has_history else self.history[:1]:
                yield solver, steps, pair, history

    def _switches(
        self, solver: SolverName, steps: int, pair: tuple[str, ...], history: History
    ) -> list[dict[str, Any]]:
        """Parameters of every switch between two networks, from the most evaluations of the second to the fewest."""
        if not self.by_switch or not set(pair[1:]).isdisjoint(self.lowest):
            return []
        lowest, after = self._after(pair)
        timesteps = Solver(solver, steps).visited(self.noise)
        most = min(max(len(timesteps) - 1, 1), sum(n >= lowest for n in timesteps))
        parameters = self._parameters(solver, steps, pair, history) | {f"edges of 2 stages{after} by": BY_SWITCH}
        return [parameters | {"share of stage 1": (count - 0.5) / most} for count in range(1, most + 1)]

    def _parameters(
        self, solver: SolverName, steps: int, serves: Sequence[str], history: History | None = None
    ) -> dict[str, Any]:
        """All but where the edges lie."""
        parameters = {"solver": solver, "steps": steps, "serves": _shown(serves)}
        if len(self.history) > 1 and len(serves) > 1 and Solver(solver, steps).has_history:
            parameters["history"] = history or self.history[0]
        return parameters

    def _suggest_schedule(self, trial: Trial, serves: tuple[str, ...], solver: Solver) -> tuple[str, StageSchedule]:
        stages = len(serves)
        if stages == 1:
            return ONE_STAGE, StageSchedule((), serves, self.noise)
        lowest, after = self._after(serves)
        ways = [*([BY_SWITCH] if self.by_switch else []), *self._methods(serves)]
        edges_by = trial.suggest_categorical(f"edges of {stages} stages{after} by", ways)
        if edges_by == BY_SWITCH:
            timesteps = solver.visited(self.noise)  # not the grid: evaluations at one timestep are not parted
            counts = _suggest_counts(trial, stages, len(timesteps), sum(n >= lowest for n in timesteps))
            return edges_by, StageSchedule.from_counts(counts, timesteps, serves, self.noise)
        edges = {c.label: c.edges for c in self._candidates(serves) if c.method == edges_by}
        label = trial.suggest_categorical(f"{edges_by} of {stages} stages{after}", list(edges))
        return edges_by, StageSchedule(edges[label], serves, self.noise).serving(solver.grid(self.noise))

    def _after(self, serves: Sequence[str]) -> tuple[float, str]:
        """The first timestep that who serves first has learnt, and what choices are named after then.

        Choices that are fewer go by another name: of one name Optuna expects the same ones.
        """
        lowest = self.lowest.get(serves[0], 0)
        return lowest, f" after {serves[0]}" if lowest else ""


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


def _coarse_to_fine(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first, then the one in the middle, then those at the quarters, at the eighths, and so on: each once."""
    size = 1 << max(len(items) - 1, 0).bit_length()
    fractions = sorted(range(size), key=lambda i: int(f"{i:0{size.bit_length()}b}"[::-1], 2))
    return [items[at] for at in dict.fromkeys(i * len(items) // size for i in fractions)] if items else []


def _shown(backbones: Sequence[str]) -> str:
    """Optuna's choices are plain values."""
    return ", ".join(backbones)
