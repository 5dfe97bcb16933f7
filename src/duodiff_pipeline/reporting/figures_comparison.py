"""Figures of several runs, one colour a run. Each draws the runs it is given by label; what does not belong together is
left out before."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..analysis.exit_statistics import exit_curve
from ..metrics.records import MetricRecord
from .style import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, ROLES, SKY, drawn, fit_scale, place_labels

PALETTE = (BLUE, ORANGE, GREEN, PINK, RED, SKY, INK)
PANELS_A_ROW = 4


def run_colours(count: int) -> list[str]:
    """One a run; more runs than there are plain colours get shades from dark to light."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [to_hex(matplotlib.colormaps["viridis"](0.95 * place / (count - 1))) for place in range(count)]


@drawn(10.4, 6.2)
def costs_figure(
    figure: Figure,
    records: Mapping[str, Sequence[MetricRecord]],
    recommended: Mapping[str, str],
    colours: Mapping[str, str],
) -> None:
    """FID against cost: one marker a role, with intervals; the recommended plan of each run is ringed and named."""
    axes = figure.add_subplot()
    labels = []
    for place, (run, own) in enumerate(records.items()):
        wider = _width(place, len(records)) - _width(1, 2)
        for record in own:
            at, colour = (record.gmacs, record.value), colours[run]
            axes.vlines(record.gmacs, record.interval_low, record.interval_high, color=colour, linewidth=1.4 + wider)
            axes.plot(*at, _marker(record.denoiser), color=colour, markersize=7 + 3 * wider, markeredgecolor="white")
            if record.denoiser == recommended.get(run):
                axes.plot(*at, "o", color=INK, fillstyle="none", markersize=14, markeredgewidth=1.2)
                labels.append((*at, record.denoiser, colour))
    every = [record for own in records.values() for record in own]
    fit_scale(axes, "x", [record.gmacs for record in every])
    fit_scale(axes, "y", [record.value for record in every])
    axes.set(xlabel="cost (GMACs an image)", ylabel="FID")
    axes.margins(x=0.12)
    roles = dict.fromkeys(_role(record.denoiser) for record in every)
    keys = [Line2D([], [], linestyle="", color=GREY, marker=_marker(role), label=role) for role in roles]
    keys.append(
        Line2D([], [], linestyle="", color=INK, marker="o", fillstyle="none", markersize=11, label="recommended")
    )
    figure.legend(handles=[*_run_keys(records, colours), *keys], loc="outside lower center", ncols=4)
    if labels:
        place_labels(figure, axes, labels)


@drawn(10.4, 3.9)
def exits_figure(figure: Figure, exits: Mapping[str, tuple[pd.DataFrame, int]], colours: Mapping[str, str]) -> None:
    """Mean exit depth over the timestep, a panel a threshold; exits: table and full depth by run."""
    curves = {run: exit_curve(table, full_depth) for run, (table, full_depth) in exits.items()}
    thresholds = sorted({threshold for curve in curves.values() for threshold in curve["threshold"]})

    def draw(axes: Axes, threshold: float) -> None:
        for place, (run, curve) in enumerate(curves.items()):
            own = curve[curve["threshold"] == threshold]
            axes.plot(own["timestep"], own["mean_depth"], color=colours[run], linewidth=_width(place, len(curves)))
        axes.set(title=f"u \N{LESS-THAN OR EQUAL TO} {threshold:g}", xlabel="timestep (noise to data)", ylim=(0, None))

    first, *_ = panels = _panels(figure, thresholds, draw, shared=True)
    for axes in panels:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    first.invert_xaxis()  # for all, since they share it
    first.set_ylabel("exit depth (blocks)")
    figure.legend(handles=_run_keys(exits, colours), loc="outside lower center", ncols=4)


@drawn(10.4, 3.9)
def losses_figure(
    figure: Figure, losses: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], colours: Mapping[str, str]
) -> None:
    """Training loss over steps, a panel a network; losses: (step, loss) by run and network."""
    networks = list(dict.fromkeys(network for own in losses.values() for network in own))

    def draw(axes: Axes, network: str) -> None:
        drawn_losses: list[float] = []
        for place, (run, own) in enumerate(losses.items()):
            if points := own.get(network):
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=colours[run], marker=".", linewidth=_width(place, len(losses)))
                drawn_losses += values
        fit_scale(axes, "y", drawn_losses)
        axes.set(title=network.replace("_", " "), xlabel="training step", xlim=(0, None))

    first, *_ = _panels(figure, networks, draw)
    first.set_ylabel("training loss")
    figure.legend(handles=_run_keys(losses, colours), loc="outside lower center", ncols=4)


def _panels(
    figure: Figure, items: Sequence[Any], draw: Callable[[Axes, Any], None], shared: bool = False
) -> list[Axes]:
    rows = -(-len(items) // PANELS_A_ROW)
    figure.set_figheight(figure.get_figheight() * (0.35 + 0.65 * rows))
    columns = min(len(items), PANELS_A_ROW)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).flat)
    for axes in panels[len(items) :]:
        axes.set_visible(False)
    for axes, item in zip(panels, items, strict=False):
        draw(axes, item)
    return panels[: len(items)]


def _width(place: int, count: int) -> float:
    """Earlier runs are drawn wider, so that a curve that coincides with theirs does not hide them."""
    return 1.4 + 1.1 * (count - 1 - place)


def _run_keys(runs: Mapping[str, Any], colours: Mapping[str, str]) -> list[Line2D]:
    return [Line2D([], [], color=colours[run], linewidth=4, label=run) for run in runs]


def _role(denoiser: str) -> str:
    role = denoiser.split()[0]
    return role if role in ROLES else "other"


def _marker(denoiser: str) -> str:
    role = _role(denoiser)
    return ROLES[role].marker if role in ROLES else "P"
