"""Exit schedules to search over: three parameters make them, and a proxy that samples nothing prunes them."""

from itertools import product

import numpy as np
import pandas as pd

from ..analysis.exit_errors import excess_error
from ..diffusion.noise import NoiseSchedule
from ..networks.exit_schedule import BINS, ExitSchedule
from .study import on_front

_FALLS = (1, 2, 3, 5, 10, 20)  # bins in which all blocks would fall to the least, at a slope


def exit_candidates(
    errors: pd.DataFrame, noise: NoiseSchedule, count: int, trained: ExitSchedule | None = None
) -> pd.DataFrame:
    """Every exit schedule by least depth, knee and slope once, cheapest first, and which of them the search takes.

    errors: of `exit_errors`. Columns: least, knee (bins from data that run all blocks), slope (blocks fewer a bin from
    there; all three missing of one that none of them makes), depths (as in `ExitSchedule`), mean_depth, excess_before,
    excess_after, taken: up to `count`, the one that the network was trained for, and of those that no other beats in
    cost and in excess after the fine-tuning, evenly spread.
    """
    exit_depths = sorted(errors["depth"].unique().tolist())
    full = exit_depths[-1]
    by_depths: dict[tuple[int, ...], dict[str, float]] = {}
    for least, knee, bins in product(exit_depths, range(BINS + 1), _FALLS):
        slope = (full - least) / bins
        schedule = ExitSchedule.from_knee(least, knee, slope, full, BINS, noise)
        found = {"least": least, "knee": knee, "slope": slope}
        by_depths.setdefault(schedule.depths, found)
    if trained is not None:
        by_depths.setdefault(trained.depths, {})
    rows = []
    for depths, made_by in by_depths.items():
        schedule = ExitSchedule(depths, noise)
        excess = {f"excess_{network}": excess_error(errors, schedule, network) for network in ("before", "after")}
        rows.append({**made_by, "depths": list(depths), "mean_depth": schedule.mean_depth, **excess})
    table = pd.DataFrame(rows).sort_values(["mean_depth", "excess_after"], ignore_index=True)
    own = [row for row, depths in enumerate(table["depths"]) if trained and tuple(depths) == trained.depths][:count]
    front = np.flatnonzero(on_front(table[["mean_depth", "excess_after"]].to_numpy()))
    front = front[~np.isin(front, own)]
    picked = np.unique(np.linspace(0, len(front) - 1, min(count - len(own), len(front))).round().astype(int))
    return table.assign(taken=table.index.isin([*own, *front[picked]]))
