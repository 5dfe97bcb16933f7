"""Figures over the timestep, drawn as sampling runs: from noise (left) to data (right)."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.exit_statistics import exit_curve
from ..diffusion.noise import NoiseSchedule
from .style import BLUE, GREY, INK, LIGHT, ORANGE, SEARCHED, SUGGESTED, drawn, fit_scale
from .switches import SwitchRange
from .wording import MINUS

DASHES = ("-", "--", ":", "-.")


@drawn(10.4, 5.4)
def exit_statistics_figure(
    figure: Figure,
    exit_table: pd.DataFrame,
    full_depth: int,
    suggested: Sequence[SwitchRange],
    evaluated: Sequence[SwitchRange],
    noise: NoiseSchedule,
) -> None:
    """Above: mean exit depth and band, a curve a threshold. Below, on the same axis: the switches with their ranges."""
    rows = len(suggested) + len(evaluated)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[10, 1 + rows])
    curves = exit_curve(exit_table, full_depth)
    colours = _shades(len(suggested))
    for switch, colour, (_, curve) in zip(suggested, colours, curves.groupby("threshold"), strict=True):
        above.fill_between(
            curve["timestep"], curve["low_depth"], curve["high_depth"], color=colour, alpha=0.12, linewidth=0
        )
        above.plot(curve["timestep"], curve["mean_depth"], color=colour, marker=".", markersize=4, label=switch.label)
    above.axhline(full_depth, color=GREY, linewidth=0.8, linestyle=":")
    above.set(ylabel="exit depth (blocks)", ylim=(0, full_depth * 1.06))
    above.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=max(1, len(suggested)))

    marks = [(s, c, "o", "-", "suggested") for s, c in zip(suggested, colours, strict=True)]
    marks += [(s, SEARCHED, "D", "--", "searched") for s in evaluated]
    for row, (switch, colour, marker, line, _) in enumerate(marks):
        if switch.edge is None:
            below.text(
                noise.timesteps / 2, row, "no switch suggested", ha="center", va="center", color=GREY, fontsize=9
            )
            continue
        below.plot([switch.low, switch.high], [row, row], color=colour, linewidth=5, alpha=0.4, solid_capstyle="butt")
        below.plot(switch.edge, row, color=colour, marker=marker, markersize=6)
        above.axvline(switch.edge, color=colour, linewidth=1.2, linestyle=line, alpha=0.9)
    names = [f"{origin}, {switch.label.removeprefix('duodiff ')}" for switch, *_, origin in marks]
    below.set(yticks=range(rows), yticklabels=names, ylim=(rows - 0.5, -0.5))
    below.tick_params(axis="y", labelsize=9)
    _noise_to_data(below, noise)


@drawn(10.4, 6.0)
def edges_figure(
    figure: Figure,
    candidates: Sequence[dict[str, Any]],
    similarity: pd.DataFrame,
    evaluated: Sequence[SwitchRange],
    noise: NoiseSchedule,
) -> None:
    """On the logSNR axis, above: candidate edges, with the switches of evaluated schedules. Below: the curves behind
    some of them, marked where they give an edge.
    """
    rows = len(candidates)
    figure.set_figheight(4 + 0.22 * rows)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[max(3, rows) * 0.22, 2.4])
    for switch in evaluated:
        low, edge, high = _log_snr([switch.low or 0, switch.edge or 0, switch.high or 0], noise)
        above.axvspan(low, high, color=SEARCHED, alpha=0.12, linewidth=0)
        above.axvline(edge, color=SEARCHED, linewidth=1, linestyle="--")
    for row, candidate in enumerate(candidates):
        edges = candidate["edges"]
        log_snr = _log_snr(edges, noise)
        above.axhline(row, color=LIGHT, linewidth=0.8, zorder=0)
        above.plot(
            log_snr,
            [row] * len(edges),
            "o",
            color=SUGGESTED if candidate["method"] == "exit_statistics" else INK,
            markersize=5,
        )
        above.text(
            1.01,
            row,
            "; ".join(f"{edge:.0f}, {_plain(level)}" for edge, level in zip(edges, log_snr, strict=True)),
            transform=above.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
        )
    above.text(
        1.01, -0.9, "timestep, logSNR", transform=above.get_yaxis_transform(), va="center", fontsize=8.5, color=GREY
    )
    above.grid(visible=False, axis="y")
    names = [candidate["label"].replace("_", " ") for candidate in candidates]
    above.set(yticks=range(rows), yticklabels=names, ylim=(rows - 0.5, -0.5))
    above.tick_params(axis="y", labelsize=8.5, length=0)
    _timestep_axis(above, noise)

    ends = {
        "to_data": (BLUE, "like data (timestep 0)"),
        "to_noise": (ORANGE, f"like noise (timestep {noise.timesteps - 1})"),
    }
    for number, (eta, curves) in enumerate(similarity.groupby("eta")):
        for column, (colour, label) in ends.items():
            below.plot(
                _log_snr(curves["timestep"], noise),
                curves[column],
                color=colour,
                linestyle=DASHES[number % len(DASHES)],
                label=f"{label}, eta {eta:g}",
            )
    for candidate in (candidate for candidate in candidates if "end" in candidate):
        colour, _ = ends[f"to_{candidate['end']}"]
        at = _log_snr(candidate["edges"], noise)
        below.plot(at, [candidate["alpha"]], "o", color=colour, markersize=6, markeredgecolor=INK, zorder=3)
    below.set(ylabel="mean similarity", ylim=(0, 1.03))
    below.set(xlim=(noise.log_snr[-1], noise.log_snr[0]), xlabel="logSNR (left: noise, right: data)")
    below.xaxis.set_major_formatter(lambda level, _: f"{level:g}".replace("-", MINUS))
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)


@drawn(10.4, 3.9)
def exit_errors_figure(figure: Figure, errors: pd.DataFrame, noise: NoiseSchedule) -> None:
    """Error of every exit depth over that of the whole untuned network, before (dashed) and after the fine-tuning."""
    axes = figure.add_subplot()
    whole = errors[errors["depth"] == errors["depth"].max()].set_index("timestep")["before"]
    by_depth = list(errors.groupby("depth"))
    for colour, (depth, own) in zip(_shades(len(by_depth)), by_depth, strict=True):
        own = own.set_index("timestep")
        for network, line in (("before", "--"), ("after", "-")):
            label = f"{depth} blocks" if network == "after" else None
            axes.plot(own.index, own[network] / whole, color=colour, linestyle=line, marker=".", label=label)
    fit_scale(axes, "y", [float(v) for n in ("before", "after") for v in errors[n] / errors["timestep"].map(whole)])
    axes.set(ylabel="error, of the whole network's")
    figure.legend(loc="outside lower center", ncols=len(by_depth))
    _noise_to_data(axes, noise)


def _noise_to_data(axes: Axes, noise: NoiseSchedule) -> None:
    axes.set(xlim=(noise.timesteps, 0), xlabel="timestep (left: noise, right: data)")


def _log_snr(timesteps: Any, noise: NoiseSchedule) -> Any:
    return np.interp(timesteps, np.arange(noise.timesteps), noise.log_snr)


def _timestep_axis(axes: Axes, noise: NoiseSchedule) -> None:
    """A second axis on top that names round timesteps, as many as have room."""
    room = 0.06 * (noise.log_snr[0] - noise.log_snr[-1])
    shown: list[tuple[float, int]] = []
    for timestep in np.linspace(0, noise.timesteps, 21).astype(int)[:-1]:
        at = float(noise.log_snr[timestep])
        if not shown or shown[-1][0] - at > room:
            shown.append((at, int(timestep)))
    top = axes.secondary_xaxis("top")
    top.set_xticks([at for at, _ in shown], [str(timestep) for _, timestep in shown])
    top.set_xlabel("timestep")


def _shades(count: int) -> list[Any]:
    """From light to dark, told apart in grey as well."""
    return list(matplotlib.colormaps["cividis"](np.linspace(0.75, 0.05, count)))


def _plain(value: float) -> str:
    """One decimal, and no minus before a zero."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", MINUS)
