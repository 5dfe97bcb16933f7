"""Exit schedules to search over: three parameters make them, and a proxy that samples nothing prunes them."""

from itertools import product

import numpy as np
import pandas as pd

from ..analysis.exit_errors import excess_error
from ..diffusion.noise import NoiseSchedule
from ..networks.exit_schedule import BINS, ExitSchedule
from .study import on_front

_SLOPES = (0.25, 0.5, 1.0, 2.0, 4.0)  # blocks fewer a bin


def exit_candidates(errors: pd.DataFrame, noise: NoiseSchedule, count: int) -> pd.DataFrame:
    """Every exit schedule by least depth, knee and slope once, cheapest first, and which of them the search takes.

    errors: of `exit_errors`. Columns: least, knee (bins from data that run all blocks), slope (blocks fewer a bin from
    there), depths (as in `ExitSchedule`), mean_depth, excess_before, excess_after, taken: up to `count` of those that
    no other beats in cost and in excess after the fine-tuning, evenly spread.
    """
    exit_depths = sorted(errors["depth"].unique().tolist())
    by_depths: dict[tuple[int, ...], dict[str, float]] = {}
    for least, knee, slope in product(exit_depths, range(BINS + 1), _SLOPES):
        schedule = ExitSchedule.from_knee(least, knee, slope, exit_depths[-1], BINS, noise)
        found = {"least": least, "knee": knee, "slope": slope}
        by_depths.setdefault(schedule.depths, found)
    rows = []
    for depths, made_by in by_depths.items():
        schedule = ExitSchedule(depths, noise)
        excess = {f"excess_{network}": excess_error(errors, schedule, network) for network in ("before", "after")}
        rows.append({**made_by, "depths": list(depths), "mean_depth": schedule.mean_depth, **excess})
    table = pd.DataFrame(rows).sort_values(["mean_depth", "excess_after"], ignore_index=True)
    front = np.flatnonzero(on_front(table[["mean_depth", "excess_after"]].to_numpy()))
    picked = np.unique(np.linspace(0, len(front) - 1, min(count, len(front))).round().astype(int))
    return table.assign(taken=table.index.isin(front[picked]))
