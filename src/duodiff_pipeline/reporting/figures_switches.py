"""Where to switch: what the exits suggest, the loss gap predicts and the search found, below what was measured."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..diffusion.noise import NoiseSchedule
from .curves import SwitchCurve
from .style import BLUE, GREEN, PINK, SEARCHED, SUGGESTED, drawn, fit_scale
from .switches import SwitchRange, edge_of

PREDICTED, MEASURED = PINK, BLUE


@drawn(10.4, 6.0)
def where_figure(
    figure: Figure,
    curves: Sequence[SwitchCurve],
    suggested: Sequence[SwitchRange],
    predicted: Sequence[Mapping[str, Any]],
    evaluated: Sequence[SwitchRange],
    noise: NoiseSchedule,
) -> None:
    """Above, FID of every single switch over the timestep at which it lies; below, on the same axis, a row a method.

    suggested: by the exits, one a threshold; predicted: by the loss gap, one a solver and number of steps; evaluated:
    switches of the schedules that the search chose.
    """
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    fids = []
    for curve, style in zip(curves, cycle(("-", "--", ":"))):
        edges = [edge_of(k, curve.grid, noise) for k in curve.ks]
        fids += [point.fid.value for point in curve.points]
        own = [point.fid for point in curve.points]
        above.vlines(edges, [fid.low for fid in own], [fid.high for fid in own], color=GREEN, linewidth=1.2, alpha=0.6)
        label = f"{curve.solver}, {curve.steps} steps"
        above.plot(edges, [fid.value for fid in own], style, marker="D", markersize=4, color=GREEN, label=label)
    fit_scale(above, "y", fids)
    above.set_ylabel("FID")
    above.legend(loc="upper left", title="first shallow, then deep")

    rows = [(f"exits, {s.label}", [(s.edge, s.low, s.high)], SUGGESTED, "o") for s in suggested]
    rows += [
        (f"loss gap, {p['solver']} {p['steps']}", [(p["timestep_edge"], p["edge_low"], p["edge_high"])], PREDICTED, "^")
        for p in predicted
    ]
    rows.append(("search, evaluated", [(s.edge, s.low, s.high) for s in evaluated], SEARCHED, "D"))
    for curve in curves:
        late, early = (edge_of(k, curve.grid, noise) for k in curve.free)
        rows.append((f"last free, {curve.name}", [(None, early, late)], MEASURED, "s"))
    for place, (_, ranges, colour, marker) in enumerate(rows):
        for edge, low, high in ranges:
            _range(below, place, edge, low, high, colour, marker)
    below.set_yticks(range(len(rows)), [label for label, *_ in rows])
    below.set(ylim=(len(rows) - 0.5, -0.5), xlim=(noise.timesteps * 1.01, -noise.timesteps * 0.01))
    below.set_xlabel("timestep of the switch: noise to data")


def _range(
    axes: Axes, place: float, edge: float | None, low: float | None, high: float | None, colour: str, marker: str
) -> None:
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], "|-", color=colour, linewidth=2, markersize=7, alpha=0.7)
    if edge is not None:
        axes.plot([edge], [place], marker, color=colour, markersize=7, markeredgewidth=0)
