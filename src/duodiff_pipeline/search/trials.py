"""The trials of all studies as a table, and which of them to look at again."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from ..networks.plans import SamplingPlan
from .space import BY_PARTS, SearchSpace
from .study import on_front


def trials_table(
    studies: Sequence[tuple[str, Sequence[FrozenTrial]]], space: SearchSpace, gmacs: Callable[[SamplingPlan], float]
) -> pd.DataFrame:
    """One row a trial: what it proposed, what that comes to on its solver's timesteps, what it measured.

    study: its name; edges, serves: of the stages that really serve; k is there where these are two; fid: after all
    images, and missing where the trial was given up, at fid_given_up after given_up_after images (0: its cost is beyond
    the budget). on_front marks those that none beats in FID and cost.
    """
    rows = []
    for study, trials in studies:
        for trial in trials:
            proposal = space.proposal(trial.params, trial.number)
            plan, complete = proposal.plan, trial.state == TrialState.COMPLETE
            rows.append(
                {
                    "study": study,
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
                    "fid": trial.values[0] if complete else float("nan"),
                    "given_up_after": None if complete else trial.last_step or 0,
                    "fid_given_up": float("nan") if complete else trial.intermediate_values.get(trial.last_step or 0),
                    "gmacs": gmacs(plan),
                }
            )
    table = pd.DataFrame(rows).astype({"k": "Int64", "given_up_after": "Int64", "fid_given_up": "float64"})
    table["on_front"] = False
    whole = table["fid"].notna()
    table.loc[whole, "on_front"] = on_front(table.loc[whole, ["fid", "gmacs"]].to_numpy())
    return table


def best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Of one objective, the trial that measured the least of all that were not given up."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: (trial.values[0], trial.number), default=None)


def spread(trials: pd.DataFrame, count: int) -> list[dict[Hashable, Any]]:
    """Up to `count` trials of two networks or more, spread over the front from the lowest FID to the lowest cost.

    Where the front has none, the one of the lowest FID; where there is none at all, nothing.
    """
    return _spread(trials[~trials["edges_by"].isin(BY_PARTS)], count)


def best_by_parts(trials: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Of exit schedules, and of decoders, the trial of the lowest FID with several stages, on the front if any is."""
    return [row for parts in BY_PARTS for row in _spread(trials[trials["edges_by"] == parts], 1)]


def rest_of_front(trials: pd.DataFrame, taken: Sequence[Mapping[Hashable, Any]]) -> list[dict[Hashable, Any]]:
    """Every other plan on the front that networks serve as a whole, cheapest first."""
    whole = trials[trials["on_front"] & ~trials["edges_by"].isin(BY_PARTS)].drop_duplicates("plan")
    rest = whole[~whole["plan"].isin([row["plan"] for row in taken])]
    return rest.sort_values("gmacs").to_dict("records")


def _spread(trials: pd.DataFrame, count: int) -> list[dict[Hashable, Any]]:
    staged = trials[trials["fid"].notna() & (trials["serves"].map(len) > 1)]
    staged = staged.drop_duplicates("plan").sort_values(["fid", "gmacs"])
    on_it = staged[staged["on_front"]]
    if on_it.empty:
        return staged.head(1).to_dict("records")
    picked = np.unique(np.linspace(0, len(on_it) - 1, min(count, len(on_it))).round().astype(int))
    return on_it.iloc[picked].to_dict("records")
