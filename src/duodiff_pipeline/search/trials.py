"""The trials of a study as a table, and which of them to look at again."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FixedTrial, FrozenTrial

from .space import EXIT_SCHEDULE, SearchSpace
from .study import on_front


def trials_table(trials: Sequence[FrozenTrial], space: SearchSpace) -> pd.DataFrame:
    """One row a trial: what it proposed, what that comes to on its solver's timesteps, what it measured.

    edges, serves: of the stages that really serve; k is there where these are two; on_front marks the trials that none
    beats in FID and cost.
    """
    rows = []
    for trial in trials:
        proposal = space.suggest(FixedTrial(trial.params, trial.number))  # type: ignore[arg-type]
        plan = proposal.plan
        fid, gmacs = trial.values
        rows.append(
            {
                "trial": trial.number,
                "plan": f"{plan.solver.label} {plan.solver.steps}, {plan.runs}",
                "solver": plan.solver.name,
                "steps": plan.solver.steps,
                "history": plan.solver.history,
                "nfe": len(plan.grid),
                "edges_by": proposal.edges_by,
                "k": plan.switch,
                "edges": list(plan.schedule.edges),
                "serves": list(plan.schedule.serves),
                "fid": fid,
                "gmacs": gmacs,
            }
        )
    table = pd.DataFrame(rows).astype({"k": "Int64"})
    return table.assign(on_front=on_front(table[["fid", "gmacs"]].to_numpy()))


def spread(trials: pd.DataFrame, count: int) -> list[dict[Hashable, Any]]:
    """Up to `count` trials of two networks or more, spread over the front from the lowest FID to the lowest cost.

    Where the front has none, the one of the lowest FID; where there is none at all, nothing.
    """
    return _spread(trials[trials["edges_by"] != EXIT_SCHEDULE], count)


def best_exit_schedule(trials: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The trial of the lowest FID in which several exit depths of one network serve, on the front if any is."""
    return _spread(trials[trials["edges_by"] == EXIT_SCHEDULE], 1)


def _spread(trials: pd.DataFrame, count: int) -> list[dict[Hashable, Any]]:
    staged = trials[trials["serves"].map(len) > 1]
    staged = staged.drop_duplicates("plan").sort_values(["fid", "gmacs"])
    on_it = staged[staged["on_front"]]
    if on_it.empty:
        return staged.head(1).to_dict("records")
    picked = np.unique(np.linspace(0, len(on_it) - 1, min(count, len(on_it))).round().astype(int))
    return on_it.iloc[picked].to_dict("records")
