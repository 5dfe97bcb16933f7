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
from .style import BLUE, GREY, INK, LIGHT, ORANGE, SEARCHED, SUGGESTED, drawn
from .switches import SwitchRange


@drawn(10.4, 5.6)
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
    colours = _shades(curves["threshold"].nunique())
    for colour, (threshold, curve) in zip(colours, curves.groupby("threshold"), strict=True):
        above.fill_between(curve["timestep"], curve["low_depth"], curve["high_depth"], color=colour, alpha=0.12, linewidth=0)
        above.plot(curve["timestep"], curve["mean_depth"], color=colour, marker=".", markersize=4, label=f"u <= {threshold:g}")
    above.axhline(full_depth, color=GREY, linewidth=0.8, linestyle=":")
    above.set(ylabel="exit depth (blocks)", ylim=(0, full_depth * 1.06))
    above.legend(title="threshold", loc="lower right")

    labels = []
    for row, (switch, colour) in enumerate([(s, SUGGESTED) for s in suggested] + [(s, SEARCHED) for s in evaluated]):
        labels.append(f"suggested, {switch.label}" if colour == SUGGESTED else f"searched, {switch.label}")
        if switch.edge is None:
            below.text(noise.timesteps / 2, row, "no switch suggested", ha="center", va="center", color=GREY, fontsize=9)
            continue
        below.plot([switch.low, switch.high], [row, row], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
        below.plot(switch.edge, row, color=colour, marker="o" if colour == SUGGESTED else "D", markersize=6)
        above.axvline(switch.edge, color=colour, linewidth=1, linestyle="-" if colour == SUGGESTED else "--", alpha=0.8)
    below.set(yticks=range(rows), yticklabels=labels, ylim=(rows - 0.5, -0.5))
    below.set_xlabel("timestep (left: noise, right: data)")
    _noise_to_data(below, noise)


@drawn(10.4, 7.2)
def edges_figure(
    figure: Figure,
    candidates: Sequence[dict[str, Any]],
    similarity: pd.DataFrame,
    evaluated: Sequence[SwitchRange],
    noise: NoiseSchedule,
) -> None:
    """Above: every candidate edge, with the edges of evaluated schedules. Below: the similarity curves behind some of them."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[max(3, len(candidates)) * 0.22, 2.6])
    for switch in evaluated:
        above.axvspan(switch.low or 0, switch.high or 0, color=SEARCHED, alpha=0.12, linewidth=0)
        above.axvline(switch.edge or 0, color=SEARCHED, linewidth=1, linestyle="--")
    log_snr = np.interp([candidate["edge"] for candidate in candidates], np.arange(noise.timesteps), noise.log_snr)
    for row, (candidate, level) in enumerate(zip(candidates, log_snr, strict=True)):
        above.plot([0, noise.timesteps], [row, row], color=LIGHT, linewidth=0.8, zorder=0)
        above.plot(candidate["edge"], row, "o", color=SUGGESTED if candidate["method"] == "exit_statistics" else INK, markersize=5)
        near_right = candidate["edge"] < noise.timesteps * 0.15
        above.annotate(
            f"{candidate['edge']:.0f} (logSNR {level:.1f})".replace("-", "\N{MINUS SIGN}"),
            (candidate["edge"], row),
            xytext=(-7 if near_right else 7, 0),
            textcoords="offset points",
            ha="right" if near_right else "left",
            va="center",
            fontsize=8,
            color=GREY,
        )
    above.grid(visible=False, axis="y")
    above.set(yticks=range(len(candidates)), yticklabels=[_shown(c["label"]) for c in candidates], ylim=(len(candidates) - 0.5, -0.5))
    above.tick_params(axis="y", labelsize=8.5, length=0)
    _log_snr_axis(above, noise)

    styles = {"to_data": (BLUE, "like data (timestep 0)"), "to_noise": (ORANGE, f"like noise (timestep {noise.timesteps - 1})")}
    dashes = ["-", "--", ":", "-."]
    for number, (eta, curves) in enumerate(similarity.groupby("eta")):
        for column, (colour, label) in styles.items():
            dash = dashes[number % len(dashes)]
            below.plot(curves["timestep"], curves[column], color=colour, linestyle=dash, label=f"{label}, eta {eta:g}")
    below.set(ylabel="mean similarity", ylim=(0, 1.03), xlabel="timestep (left: noise, right: data)")
    below.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _noise_to_data(below, noise)


def _noise_to_data(axes: Axes, noise: NoiseSchedule) -> None:
    axes.set_xlim(noise.timesteps, 0)


def _log_snr_axis(axes: Axes, noise: NoiseSchedule) -> None:
    """A second axis on top that names the logSNR at timesteps where it is a whole number."""
    levels = matplotlib.ticker.MaxNLocator(9, integer=True).tick_values(noise.log_snr[-1], noise.log_snr[0])
    levels = levels[(levels >= noise.log_snr[-1]) & (levels <= noise.log_snr[0])]
    at = np.interp(levels, noise.log_snr[::-1], np.arange(noise.timesteps)[::-1])
    top = axes.secondary_xaxis("top")
    top.set_xticks(at, [f"{level:g}".replace("-", "\N{MINUS SIGN}") for level in levels])
    top.set_xlabel("logSNR")


def _shades(count: int) -> list[Any]:
    """From light to dark, told apart in grey as well."""
    return list(matplotlib.colormaps["cividis"](np.linspace(0.75, 0.05, count)))


def _shown(label: str) -> str:
    return label.replace("_", " ")
