"""The two phases of a search: the lowest FID within budgets of cost, where the hopeless are given up, then the front.

Optuna gives up trials of one objective only, so the front comes second: it begins with what the budgets found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, Trial

from ..errors import InputError
from ..networks.plans import SamplingPlan
from .space import SearchSpace
from .storage import SharedStorage
from .study import Study, run_study
from .trials import best

FRONT = "front"


@dataclass(frozen=True)
class Measure:
    """fid: of a plan after so many images, one of `rungs`, of which the last is all; gmacs: known beforehand."""

    fid: Callable[[SamplingPlan, int], float]
    gmacs: Callable[[SamplingPlan], float]
    rungs: Sequence[int]


def search(
    shared: SharedStorage,
    space: SearchSpace,
    measure: Measure,
    budgets: Sequence[tuple[str, float]],
    budget_trials: int,
    n_trials: int,
    seed: int,
) -> list[tuple[str, list[FrozenTrial]]]:
    """Take part in the studies of all budgets and in that of the front; their names and trials, once all have ended.

    budgets: name and GMACs of each. Raises InputError where a budget buys nothing, and what `run_study` raises.
    """
    found = [
        (
            name,
            run_study(
                shared, _within(name, gmacs, space, measure, budget_trials), seed, _evaluate(space, measure, gmacs)
            ),
        )
        for name, gmacs in budgets
    ]
    seeds = [trial.params for _, trials in found if (trial := best(trials)) is not None]
    first = space.distinct([*seeds, *space.anchors()])
    if not space.samples:  # nothing is left to be proposed but every network alone and every single switch
        first = space.distinct([*first, *space.walk(measure.gmacs)])
        n_trials = min(n_trials, len(first))
    study = Study(FRONT, ("fid", "gmacs"), n_trials, first, space.may_sample)
    return [*found, (FRONT, run_study(shared, study, seed, _evaluate_front(space, measure)))]


def _within(name: str, gmacs: float, space: SearchSpace, measure: Measure, n_trials: int) -> Study:
    """Single switches first, coarse to fine; where there is more to propose, half of the trials are left for that."""
    walk = space.walk(measure.gmacs, gmacs)
    if not walk and min(map(len, space.orders)) < 3:
        raise InputError(f"switch_search.budgets: {gmacs:.3g} GMACs an image ({name}) buy no schedule")
    if not space.samples:
        return Study(name, ("fid",), min(n_trials, len(walk)), walk)
    return Study(name, ("fid",), n_trials, walk[: max(1, n_trials // 2)], space.may_sample)


def _evaluate(space: SearchSpace, measure: Measure, at_most_gmacs: float) -> Callable[[Trial], tuple[float, ...]]:
    """FID within a budget. What costs more is not sampled at all: the sampler is told by how much it is beyond.

    A repair instead, to the nearest plan within the budget, would have the sampler learn from parameters that were not
    those of the plan.
    """

    def evaluate(trial: Trial) -> tuple[float, ...]:
        plan = space.suggest(trial).plan
        beyond = measure.gmacs(plan) / at_most_gmacs - 1
        trial.set_constraint("cost", beyond)
        if beyond > 0:
            raise optuna.TrialPruned
        for n_images in measure.rungs:
            fid = measure.fid(plan, n_images)
            trial.report(fid, n_images)
            if n_images < measure.rungs[-1] and trial.should_prune():
                raise optuna.TrialPruned
        return (fid,)

    return evaluate


def _evaluate_front(space: SearchSpace, measure: Measure) -> Callable[[Trial], tuple[float, ...]]:
    def evaluate(trial: Trial) -> tuple[float, ...]:
        plan = space.suggest(trial).plan
        return measure.fid(plan, measure.rungs[-1]), measure.gmacs(plan)

    return evaluate
