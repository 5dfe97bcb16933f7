"""Optuna studies that any number of processes share, resumable and repeatable trial by trial."""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from ..diffusion.random import keyed_generator
from ..errors import InputError
from .leases import Leases
from .storage import SharedStorage

logger = logging.getLogger(__name__)

GOES_ON = 3  # one trial of so many goes on after a rung
DRAWS = 20  # of what the sampler may not choose, before it draws evenly from what it may
POLL_SECONDS = 0.5  # between looks at what other processes do

MaySample = Callable[[str, Any], bool]


@dataclass(frozen=True)
class Study:
    """What one study is.

    name: as it is shown, and in the storage with its key; objectives: their names, all are minimised; n_trials: in all,
    whoever runs them; first: parameters of the first trials, by number; may_sample: what the sampler may choose then.
    """

    name: str
    objectives: tuple[str, ...]
    n_trials: int
    first: Sequence[Mapping[str, Any]] = ()
    may_sample: MaySample = lambda parameter, value: True


def run_study(
    shared: SharedStorage, study: Study, seed: int, evaluate: Callable[[Trial], Sequence[float]]
) -> list[FrozenTrial]:
    """Take part in a study until all its trials have ended, and return them.

    evaluate gives the objectives of a trial, or raises TrialPruned. What a killed process was running is run again
    under its own number, by this process or another one. A single process proposes what it would have proposed without
    kills. The first trials need no queue: each takes its parameters by its number (`_KeyedSampler`).

    Raises InputError where a trial's measurement is not finite, naming it.
    """
    with _quiet():
        optuna_study = optuna.create_study(
            storage=shared.storage,
            sampler=_KeyedSampler(seed, study),
            pruner=_BestThird(),
            study_name=f"{study.name} of {shared.key}",
            directions=["minimize"] * len(study.objectives),
            load_if_exists=True,
        )
        optuna_study.set_metric_names(list(study.objectives))
        leases = Leases(shared.storage)
        while (trial := _next(shared, optuna_study, study.n_trials, leases)) is not None:
            with leases.beating(trial._trial_id):
                try:
                    objectives = tuple(evaluate(trial))
                except optuna.TrialPruned:
                    objectives = ()
            if not np.isfinite(objectives).all():  # Optuna would count it as failed, and propose it again for ever
                raise InputError(
                    f"trial {trial.number} measured {objectives}, no finite {' and '.join(study.objectives)}: "
                    f"{trial.params}"
                )
            _end(shared, optuna_study, trial, objectives, leases)
            logger.info("%s", _told(study, trial, objectives))
        trials = optuna_study.get_trials()
    return [trial for trial in trials if trial.number < study.n_trials]


def _next(shared: SharedStorage, study: optuna.Study, n_trials: int, leases: Leases) -> Trial | None:
    """The trial to run next: one that a dead process left, else a new one; None once all have ended."""
    told = False
    while True:
        with shared.alone():
            trials = study.get_trials(deepcopy=False)
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            for left in running:
                if leases.abandoned(left):
                    leases.take(left._trial_id)
                    return Trial(study, left._trial_id)
            if len(trials) < n_trials:
                trial = study.ask()
                leases.take(trial._trial_id)
                return trial
        if not running:
            return None
        if not told:
            logger.info("%s: waiting for trials that other processes run", study.study_name)
            told = True
        time.sleep(POLL_SECONDS)


def _end(shared: SharedStorage, study: optuna.Study, trial: Trial, objectives: Sequence[float], leases: Leases) -> None:
    """Write a trial's end, unless this process was taken for dead meanwhile and another one has the trial."""
    with shared.alone():
        if not leases.holds(shared.storage.get_trial(trial._trial_id)):
            logger.info("trial %d has been taken over by another process", trial.number)
        elif objectives:
            study.tell(trial, objectives)
        else:
            study.tell(trial, state=TrialState.PRUNED)


def _told(study: Study, trial: Trial, objectives: Sequence[float]) -> str:
    what = ", ".join(f"{name} {value:.4g}" for name, value in zip(study.objectives, objectives, strict=False))
    last = trial.storage.get_trial(trial._trial_id).last_step
    where = f"after {last} images" if last else "beyond the budget"
    return f"{study.name}, trial {trial.number + 1} of {study.n_trials}: {what or f'given up {where}'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells nothing; what it warns of is that a trial which is run again reports what it had reported."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message=".*is already (reported|set)")
        yield


class _BestThird(BasePruner):
    """Gives a trial up unless its last report is among the best third of all that have got as far: FIDs of one n alone.

    It keeps no state, so a trial that is run again is judged as before. Optuna's own halving keeps some in the trial,
    and its percentiles compare the best report of a trial, whatever the n, with those of others.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        if (step := trial.last_step) is None:
            return False
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        reached = [t.intermediate_values[step] for t in others if step in t.intermediate_values]
        better = sum(value < trial.intermediate_values[step] for value in reached)
        return better >= math.ceil((len(reached) + 1) / GOES_ON)


class _KeyedSampler(BaseSampler):
    """The given parameters for the first trials; then TPE that draws all of each trial from generators of its own.

    A trial that was killed keeps the parameters it had proposed: they are not drawn again, and must not be missed by
    those that are still to come. What may not be sampled is drawn again.
    """

    def __init__(self, seed: int, study: Study) -> None:
        self._seed, self._first, self._may_sample = seed, study.first, study.may_sample

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if trial.number < len(self._first):
            return {}
        return self._tpe(trial, "groups").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        for draw in range(DRAWS if search_space else 0):
            tpe = self._tpe(trial, f"what is drawn jointly {draw}")
            tpe.infer_relative_search_space(study, trial)  # it keeps the groups that it finds
            parameters = tpe.sample_relative(study, trial, search_space)
            if all(self._may_sample(name, value) for name, value in parameters.items()):
                return parameters
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if trial.number < len(self._first) and param_name in self._first[trial.number]:
            return self._first[trial.number][param_name]
        for draw in range(DRAWS):
            tpe = self._tpe(trial, f"{param_name} {draw}")
            value = tpe.sample_independent(study, trial, param_name, param_distribution)
            if self._may_sample(param_name, value):
                return value
        assert isinstance(param_distribution, CategoricalDistribution)
        allowed = [value for value in param_distribution.choices if self._may_sample(param_name, value)]
        return allowed[self._generator(trial, f"{param_name} evenly").integers(len(allowed))]

    def _tpe(self, trial: FrozenTrial, purpose: str) -> TPESampler:
        seed = int(self._generator(trial, purpose).integers(2**31))
        return TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=10)

    def _generator(self, trial: FrozenTrial, purpose: str) -> np.random.Generator:
        return keyed_generator(self._seed, f"search {purpose}", trial.number)


def on_front(objectives: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) bool: the rows of (N, 2) objectives that no other row dominates; equal rows all stay."""
    no_worse = np.all(objectives[None] <= objectives[:, None], axis=2)
    better = np.any(objectives[None] < objectives[:, None], axis=2)
    beaten: NDArray[np.bool_] = np.any(no_worse & better, axis=1)
    return ~beaten
