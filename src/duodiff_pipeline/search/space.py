"""The search space: a trial's parameters to a sampling plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from optuna.trial import Trial

from ..diffusion.noise import NoiseSchedule
from ..diffusion.solvers import Solver, SolverName
from ..diffusion.stages import StageSchedule
from ..networks.plans import SamplingPlan, single

BY_SWITCH = "switch"  # the edge lies where k says
ONE_STAGE = "one stage"  # there is no edge


@dataclass(frozen=True)
class SearchSpace:
    """What a trial chooses from.

    candidates: edges by how they were found ("exit_statistics: threshold=0.1", ...), from timestep clustering;
    first, last: the backbones of the noisy stage and of the one that ends at the data.
    """

    solvers: Sequence[SolverName]
    steps: Sequence[int]
    candidates: Mapping[str, float]
    first: str
    last: str
    noise: NoiseSchedule

    def suggest(self, trial: Trial) -> SamplingPlan:
        """Solver, steps, and an edge by k, by one of the clusterings, or none (then one backbone serves throughout)."""
        name = trial.suggest_categorical("solver", list(self.solvers))
        solver = Solver(cast(SolverName, name), trial.suggest_categorical("steps", list(self.steps)))
        edges_by = trial.suggest_categorical("edges_by", [BY_SWITCH, ONE_STAGE, *self._methods()])
        named = f"trial {trial.number}"
        if edges_by == ONE_STAGE:
            return single(named, trial.suggest_categorical("serves", [self.last, self.first]), solver, self.noise)
        if edges_by == BY_SWITCH:
            grid = solver.grid(self.noise)
            k = trial.suggest_int(f"k of {len(grid)}", 0, len(grid))
            schedule = StageSchedule.from_switch(k, grid, (self.first, self.last), self.noise)
        else:
            labels = [label for label in self.candidates if _method(label) == edges_by]
            label = trial.suggest_categorical(f"{edges_by} edge", labels)
            schedule = StageSchedule((self.candidates[label],), (self.first, self.last), self.noise)
        return SamplingPlan(named, solver, schedule)

    def anchors(self) -> list[dict[str, Any]]:
        """What every study tries first: each backbone alone at every solver and number of steps."""
        return [
            {"solver": solver, "steps": steps, "edges_by": ONE_STAGE, "serves": serves}
            for solver in self.solvers
            for steps in self.steps
            for serves in (self.last, self.first)
        ]

    def _methods(self) -> list[str]:
        return sorted({_method(label) for label in self.candidates})


def _method(label: str) -> str:
    return label.split(":")[0]
