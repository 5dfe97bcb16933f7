"""The Optuna study: two objectives, kept in a journal file, resumable and repeatable trial by trial."""

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from ..diffusion.random import keyed_generator
from ..errors import InputError
from ..files import writing

logger = logging.getLogger(__name__)

Objectives = tuple[float, float]


def run_study(
    folder: Path,
    n_trials: int,
    seed: int,
    anchors: Sequence[dict[str, Any]],
    evaluate: Callable[[Trial], Objectives],
) -> list[FrozenTrial]:
    """Run the study in `folder` until it holds `n_trials` finished trials; minimises FID and GMACs an image.

    A study that was killed, wherever, and goes on proposes what it would have proposed (`_KeyedSampler`); a trial that
    was killed is run again under its own number.
    Raises InputError where a trial's measurement is not finite, naming it, and where the journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _open(folder / "journal.log")
    study = optuna.create_study(
        storage=storage,
        sampler=_KeyedSampler(seed),
        study_name="switch",
        directions=["minimize", "minimize"],
        load_if_exists=True,
    )
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["fid", "gmacs"])
    for anchor in anchors[:n_trials]:
        study.enqueue_trial(anchor, skip_if_exists=True)
    while _count(study, TrialState.COMPLETE) < n_trials:
        trial = _again(study) or study.ask()
        objectives = evaluate(trial)
        if not np.isfinite(objectives).all():  # Optuna would count it as failed, and propose it again for ever
            raise InputError(f"trial {trial.number} measured {objectives}, no finite FID and cost: {trial.params}")
        study.tell(trial, objectives)
        logger.info("trial %d of %d: FID %.2f, %.3f GMACs an image", trial.number + 1, n_trials, *objectives)
    return [t for t in study.trials if t.state == TrialState.COMPLETE][:n_trials]


class _Journal(JournalFileBackend):
    """A journal file of whole lines.

    What a killed process, or one that ran out of space, had begun to write is taken back: Optuna would write on there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)
            super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with writing(self.path):
            super().append_logs(logs)


def _open(path: Path) -> JournalStorage:
    journal = _Journal(path)
    try:
        return JournalStorage(journal)  # reads what is there
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged: delete it; the search begins anew with what it has measured") from error


def _count(study: optuna.Study, state: TrialState) -> int:
    return len(study.get_trials(deepcopy=False, states=(state,)))


def _again(study: optuna.Study) -> Trial | None:
    """The trial that a killed process left running, with the parameters it already has."""
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        return Trial(study, left._trial_id)
    return None


class _KeyedSampler(BaseSampler):
    """TPE that draws every parameter of every trial from a generator of its own.

    A trial that was killed keeps the parameters it had proposed: they are not drawn again, and must not be missed by
    those that are still to come.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._joint = self._tpe(trial, "what is drawn jointly")  # keeps the groups that it finds for `sample_relative`
        return self._joint.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._joint.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._tpe(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _tpe(self, trial: FrozenTrial, purpose: str) -> TPESampler:
        seed = int(keyed_generator(self._seed, f"search {purpose}", trial.number).integers(2**31))
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            return TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=10)


def on_front(objectives: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) bool: the rows of (N, 2) objectives that no other row dominates; equal rows all stay."""
    no_worse = np.all(objectives[None] <= objectives[:, None], axis=2)
    better = np.any(objectives[None] < objectives[:, None], axis=2)
    beaten: NDArray[np.bool_] = np.any(no_worse & better, axis=1)
    return ~beaten
