"""The search as it may go: the same code on a stand-in for what it measures.

In the searches on digits and Fashion-MNIST, FID went with cost to the power of -0.3 and -0.6, within a factor of 1.4
and 1.2 (one standard deviation), and 10 schedules were on the front of either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config import Parameters
from ..diffusion.random import keyed_generator
from ..diffusion.stages import StageSchedule
from ..metrics.measure import rungs
from ..networks.exit_schedule import TABLES, ExitSchedule
from ..networks.plans import NetworkBank, SamplingPlan
from ..networks.transformer import TransformerBackbone
from ..pipelines.switch_search.nodes import choose_schedules, search_budgets, search_space
from ..pipelines.timestep_clustering.nodes import candidates_beforehand
from ..search.phases import Measure, search
from ..search.storage import open_storage
from ..search.trials import trials_table
from .networks import ASE
from .sampling import Shared, Tally

POWER, SCATTER = -0.5, 0.25  # of the stand-in: between those two


@dataclass(frozen=True)
class Rehearsal:
    """tally: of all trials; trials: how many; chosen: schedules that the evaluation would get."""

    tally: Tally
    trials: int
    chosen: list[dict[str, Any]]


def rehearse(p: Parameters, bank: NetworkBank, shape_chw: tuple[int, int, int], n_images: int) -> Rehearsal:
    """What is proposed, given up and chosen where FID goes with cost about as it did before.

    Edges that images or networks suggest are not known yet, and exit schedules are those with a name.
    """
    settings, schedule = p.switch_search, p.noise.schedule()
    beforehand = candidates_beforehand(schedule, range(2, len(settings.backbones) + 1))
    space = search_space(settings, p.noise, bank, beforehand, [], _named_exits(p, bank))
    measured = _Measured(bank, rungs(settings.rungs, n_images, p.sampling.micro_batch_images), p, shape_chw)
    with TemporaryDirectory() as folder:
        studies = search(
            open_storage(Path(folder), None, "plan"),
            space,
            Measure(measured.fid, bank.static_gmacs, measured.rungs),
            search_budgets(settings, p.noise, bank),
            settings.budget_trials,
            settings.n_trials,
            settings.seed,
        )
    table = trials_table(studies, space, bank.static_gmacs)
    return Rehearsal(measured.tally, len(table), choose_schedules(table, p.evaluation.schedules))


def _named_exits(p: Parameters, bank: NetworkBank) -> list[StageSchedule]:
    """In place of those that errors on held-out images will tell; cheapest first."""
    if p.ase is None or not p.ase.candidates:
        return []
    network = bank.backbones[ASE].module
    assert isinstance(network, TransformerBackbone)
    named = [ExitSchedule.named(table, network.exit_depths, p.noise.schedule()) for table in TABLES]
    by_cost = sorted({one.depths: one for one in named}.values(), key=lambda one: one.mean_depth)
    return [one.stages(ASE) for one in by_cost[: p.ase.candidates]]


class _Measured:
    """Counts what `PlanMeter` would sample."""

    def __init__(self, bank: NetworkBank, rungs: Sequence[int], p: Parameters, shape_chw: tuple[int, int, int]) -> None:
        self.rungs, self.tally = rungs, Tally()
        self._bank, self._size, self._seed = bank, p.sampling.micro_batch_images, p.switch_search.seed
        self._shared = Shared(shape_chw)
        self._made: set[tuple[Any, ...]] = set()

    def fid(self, plan: SamplingPlan, n_images: int) -> float:
        ends = [end for end in self.rungs if end <= n_images]
        for first, end in zip([0, *ends], ends, strict=False):
            if (block := (plan.solver, plan.runs, end)) not in self._made:
                self._made.add(block)
                made_before = self._shared.made_before(self._bank, plan, end - first, end)
                self.tally.draw(self._bank, plan, range(first, end), self._size, made_before)
                self.tally.judged_images += end - first
        chance = keyed_generator(self._seed, f"FID of {plan.solver}, {plan.runs}").standard_normal()
        return float(self._bank.static_gmacs(plan) ** POWER * math.exp(SCATTER * chance))
