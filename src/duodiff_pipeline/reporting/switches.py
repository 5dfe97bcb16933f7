"""Switches on the timestep axis: where exit statistics suggest one, and where the evaluated schedules have theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from ..diffusion.noise import NoiseSchedule
from ..diffusion.stages import StageSchedule
from .measured import MeasuredPlan


@dataclass(frozen=True)
class SwitchRange:
    """A switch as an edge between timesteps `low` and `high`; edge is None where there is none.

    Of a suggested switch low and high are its 95 % interval. Of an evaluated one they are the timesteps of the two
    evaluations it lies between: every edge in there gives each evaluation to the same network.
    k of evaluations: the same on the grid of timesteps it was found on.
    """

    label: str
    message: str
    k: int | None
    evaluations: int
    edge: float | None
    low: float | None
    high: float | None

    def meets(self, other: "SwitchRange") -> bool:
        """Whether the two ranges share a timestep."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return False
        return self.low <= other.high and other.low <= self.high


def suggested_switches(
    change_points: Sequence[Mapping[str, Any]], exit_table: pd.DataFrame, noise: NoiseSchedule
) -> tuple[SwitchRange, ...]:
    """One a threshold, from the change points."""
    ranges = []
    for found in change_points:
        own = exit_table[exit_table["threshold"] == found["threshold"]]
        grid = own.groupby("evaluation")["timestep"].first().to_list()
        ends = (found["k_high"], found["k_low"])
        low, high = (None if k is None else edge_of(k, grid, noise) for k in ends)
        label = f"u \N{LESS-THAN OR EQUAL TO} {found['threshold']:g}"
        ranges.append(SwitchRange(label, found["message"], found["k"], len(grid), found["timestep_edge"], low, high))
    return tuple(ranges)


def evaluated_switches(plan: MeasuredPlan, noise: NoiseSchedule) -> tuple[SwitchRange, ...]:
    """One an edge of the plan; where it has several, each says between which networks it lies."""
    bounds = (float(noise.timesteps), *plan.solver.grid(noise), 0.0)
    message = f"{plan.solver.label}, {plan.solver.steps} steps: {plan.runs}"
    ranges = []
    for (before, after), edge, k in zip(pairwise(plan.serves), plan.edges, plan.switches, strict=True):
        label = plan.name if len(plan.edges) == 1 else f"{plan.name}, {before} to {after}"
        ranges.append(SwitchRange(label, message, k, plan.nfe, edge, bounds[k + 1], bounds[k]))
    return tuple(ranges)


def edge_of(k: int, grid: Sequence[float], noise: NoiseSchedule) -> float:
    """The timestep at which a switch after k evaluations at the timesteps of `grid` lies."""
    return StageSchedule.from_switch(k, grid, ("before", "after"), noise).edges[0]
