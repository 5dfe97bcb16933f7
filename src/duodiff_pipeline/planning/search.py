"""The search as it would go if FID fell with cost alone: the same code on a stand-in for what it measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config import Parameters
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


@dataclass(frozen=True)
class Rehearsal:
    """tally: of all trials; trials: how many; chosen: schedules that the evaluation would get."""

    tally: Tally
    trials: int
    chosen: list[dict[str, Any]]


def rehearse(p: Parameters, bank: NetworkBank, shape_chw: tuple[int, int, int], n_images: int) -> Rehearsal:
    """What is proposed and given up where a dearer plan always has the lower FID.

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
        self._bank, self._size = bank, p.sampling.micro_batch_images
        self._shared = Shared(shape_chw)
        self._made: set[tuple[Any, ...]] = set()

    def fid(self, plan: SamplingPlan, n_images: int) -> float:
        ends = [end for end in self.rungs if end <= n_images]
        for first, end in zip([0, *ends], ends, strict=False):
            if (block := (plan.solver, plan.runs, end)) not in self._made:
                self._made.add(block)
                made_before = self._shared.made_before(self._bank, plan, end - first, end)
                self.tally.draw(self._bank, plan, range(first, end), self._size, made_before)
        return 1 / self._bank.static_gmacs(plan)
