"""Figures of what came out: FID over cost and over the switch, measured seconds, training losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..diffusion.solvers import Solver
from .exit_schedules import Saving
from .findings import Findings
from .measured import MeasuredPlan
from .seconds import TimedBatch
from .style import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, ROLES, SKY, drawn, fit_scale, place_labels, role_of


@drawn(10.4, 6.0)
def cost_figure(figure: Figure, findings: Findings, trials: pd.DataFrame | None) -> None:
    """Evaluated plans with intervals; trials and their front too, where they were measured at the same n."""
    axes = figure.add_subplot()
    legend = []
    if trials is not None:
        trials = trials.dropna(subset="fid")  # the others were given up
        axes.plot(trials["gmacs"], trials["fid"], "o", color=GREY, alpha=0.35, markersize=4, markeredgewidth=0)
        front = trials[trials["on_front"]].sort_values("gmacs")
        axes.step(front["gmacs"], front["fid"], where="post", color=GREY, linewidth=1.2)
        legend += [
            _key("trial (one block)", GREY, "o", alpha=0.35, markersize=4),
            Line2D([], [], color=GREY, label="front of the trials"),
        ]
    floor = findings.floor
    if findings.floor_compares:
        axes.axhspan(floor.mean - floor.spread, floor.mean + floor.spread, color=SKY, alpha=0.3, linewidth=0)
        legend.append(Line2D([], [], color=SKY, alpha=0.4, linewidth=8, label="floor ± spread"))
    _scatter(axes, findings, lambda plan: plan.fid, intervals=True)
    fids = [plan.fid for plan in findings.plans] + ([] if trials is None else trials["fid"].to_list())
    fit_scale(axes, "y", fids + ([floor.mean] if findings.floor_compares else []))
    fit_scale(
        axes, "x", [plan.gmacs for plan in findings.plans] + ([] if trials is None else trials["gmacs"].to_list())
    )
    axes.set(xlabel="cost (GMACs an image)", ylabel="FID")
    axes.margins(x=0.12)
    figure.legend(handles=[*_role_keys(findings), *legend], loc="outside lower center", ncols=5)
    place_labels(figure, axes, [_label(plan, plan.fid) for plan in findings.plans if plan.role != "front"])


@drawn(10.4, 4.2)
def batches_figure(figure: Figure, findings: Findings, batches: Sequence[TimedBatch]) -> None:
    """Measured against predicted milliseconds, a panel a batch, with the line on which they are equal."""
    for axes, batch in zip(figure.subplots(1, len(batches), squeeze=False)[0], batches, strict=True):
        most = max(timed.predicted for timed in batch.plans) * 1e3
        axes.plot([0, most], [0, most], color=GREY, linewidth=1, linestyle="--")
        for timed in batch.plans:
            x = timed.predicted * 1e3
            axes.vlines(x, timed.low * 1e3, timed.high * 1e3, color=role_of(timed.plan.role, 1).colour, linewidth=1.6)
            _point(axes, timed.plan, x, timed.measured * 1e3, findings, interval=False)
        axes.set(title=f"batch of {batch.images}", xlabel="predicted by GMACs, ms an image")
        axes.set(xlim=(0, None), ylim=(0, None))
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("measured, ms an image")
    equal = Line2D([], [], color=GREY, linestyle="--", label="as predicted")
    figure.legend(handles=[*_role_keys(findings, but=("control", "front")), equal], loc="outside lower center", ncols=7)


@drawn(10.4, 5.0)
def seconds_figure(figure: Figure, findings: Findings) -> None:
    """Measured seconds against cost, with the line on which time follows cost from the baseline."""
    axes = figure.add_subplot()
    baseline = findings.baseline
    slope = baseline.seconds_per_image / baseline.gmacs * 1e3
    most = max(plan.gmacs for plan in findings.plans)
    axes.plot([0, most], [0, slope * most], color=GREY, linewidth=1, linestyle="--")
    _scatter(axes, findings, lambda plan: plan.seconds_per_image * 1e3, intervals=False)
    axes.set(
        xlabel="cost (GMACs an image)", ylabel="measured milliseconds an image", xlim=(0, 1.12 * most), ylim=(0, None)
    )
    proportional = Line2D([], [], color=GREY, linestyle="--", label="time in proportion to cost")
    figure.legend(handles=[*_role_keys(findings), proportional], loc="outside lower center", ncols=7)
    place_labels(figure, axes, [_label(plan, plan.seconds_per_image * 1e3) for plan in findings.plans])


@drawn(10.4, 4.4)
def ase_figure(figure: Figure, findings: Findings, found: Sequence[Saving]) -> None:
    """Every exit schedule with its whole network, by a line: FID against cost, and against the clock."""
    panels = figure.subplots(1, 2, sharey=True)
    measures: tuple[tuple[str, Callable[[MeasuredPlan], float]], ...] = (
        ("cost (GMACs an image)", lambda plan: plan.gmacs),
        ("measured milliseconds an image", lambda plan: plan.seconds_per_image * 1e3),
    )
    for axes, (label, measure) in zip(panels, measures, strict=True):
        for saving in found:
            ends = (saving.whole, saving.plan)
            axes.plot([measure(p) for p in ends], [p.fid for p in ends], color=GREY, linewidth=1, zorder=1)
            for plan in ends:
                _point(axes, plan, measure(plan), plan.fid, findings, interval=True)
        axes.set(xlabel=label)
        axes.margins(x=0.15)
    plans = [plan for saving in found for plan in (saving.whole, saving.plan)]
    fit_scale(panels[0], "y", [plan.fid for plan in plans])
    panels[0].set_ylabel("FID")
    present = dict.fromkeys(role_of(plan.role, 1) for plan in plans)
    figure.legend(
        handles=[_key(role.label, role.colour, role.marker) for role in present], loc="outside lower center", ncols=4
    )
    for axes, (_, measure) in zip(panels, measures, strict=True):
        place_labels(
            figure,
            axes,
            [(measure(s.plan), s.plan.fid, s.plan.name.removeprefix("ase "), ROLES["ase"].colour) for s in found],
        )


@drawn(10.4, 3.9)
def switch_figure(
    figure: Figure, findings: Findings, trials: pd.DataFrame, backbones: Sequence[str], comparable: bool
) -> None:
    """FID of trials against the switch k, a panel for every solver and number of steps.

    backbones: those of the search; only what the first and the last of them serve is shown. comparable: whether the
    evaluated schedules, measured at the trials' n, are added.
    """
    first, last = backbones[0], backbones[-1]
    trials = trials.dropna(subset="fid").assign(serves=trials["serves"].map(", ".join))
    trials = trials[trials["serves"].isin([first, last, f"{first}, {last}"])]
    shown = [plan for plan in findings.duodiffs if comparable and plan.serves == (first, last)]
    named = ["solver", "steps", "history"]
    panels = list(trials.groupby(named))
    every_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (key, own) in zip(every_axes, panels, strict=True):
        solver = Solver.from_dict(dict(zip(named, cast(tuple[Any, ...], key), strict=True)))
        staged = own[own["k"].notna()]
        free, clustered = staged[staged["edges_by"] == "switch"], staged[staged["edges_by"] != "switch"]
        axes.plot(free["k"].astype(int), free["fid"], "o", color=INK, markersize=5, alpha=0.7, markeredgewidth=0)
        axes.plot(
            clustered["k"].astype(int), clustered["fid"], "o", color=INK, markersize=5, alpha=0.7, fillstyle="none"
        )
        for network, colour, at in ((last, BLUE, 0), (first, ORANGE, int(own["nfe"].iloc[0]))):
            fids = own.loc[own["serves"] == network, "fid"]
            axes.plot([at] * len(fids), fids, "s", color=colour, markersize=7, markeredgewidth=0)
        for plan in shown:
            if plan.solver == solver:
                _point(axes, plan, plan.switches[0], plan.fid, findings, interval=True)
        axes.set(title=f"{solver.label}, {solver.steps} steps", xlabel=f"switch k (of {own['nfe'].iloc[0]})")
        axes.xaxis.get_major_locator().set_params(integer=True)
    fit_scale(every_axes[0], "y", trials["fid"].to_list())
    every_axes[0].set_ylabel("FID")
    duodiff = [_key("evaluated, fresh seeds", ROLES["duodiff"].colour, "D")] if shown else []
    keys = [
        _key(f"{last} alone", BLUE, "s"),
        _key(f"{first} alone", ORANGE, "s"),
        _key("trial, k chosen freely", INK, "o", alpha=0.7),
        _key("trial, edge from clustering", INK, "o", alpha=0.7, fillstyle="none"),
    ]
    figure.legend(handles=keys + duodiff, loc="outside lower center", ncols=5)


@drawn(10.4, 3.6)
def training_figure(figure: Figure, curves: Mapping[str, Mapping[str, Any]]) -> None:
    """Loss against training steps; early exits, whose loss is another sum, have a panel of their own."""
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    colours = {"deep": BLUE, "shallow": ORANGE, "middle": GREY}
    others = iter([GREEN, PINK, RED] * len(curves))
    values: dict[Any, list[float]] = {left: [], right: []}
    for name, curve in curves.items():
        if not curve["losses"]:  # fewer steps than lie between two points
            continue
        axes = right if name == "early_exits" else left
        steps, losses = zip(*curve["losses"], strict=True)
        axes.plot(steps, losses, marker=".", color=colours.get(name) or next(others), label=name.replace("_", " "))
        values[axes] += losses
    for axes, title in ((left, "backbones"), (right, "early exits")):
        axes.set(title=title, xlabel="training step", xlim=(0, None))
        fit_scale(axes, "y", values[axes])
    left.set_ylabel("training loss")
    if values[left]:
        left.legend()


def _scatter(axes: Axes, findings: Findings, value: Callable[[MeasuredPlan], float], intervals: bool) -> None:
    for plan in findings.plans:
        _point(axes, plan, plan.gmacs, value(plan), findings, intervals)


def _point(axes: Axes, plan: MeasuredPlan, x: float, y: float, findings: Findings, interval: bool) -> None:
    role, above = role_of(plan.role, len(plan.serves)), 4 if plan.role == "duodiff" else 3
    if interval:
        axes.vlines(
            x, plan.record.interval_low, plan.record.interval_high, color=role.colour, linewidth=1.6, zorder=above
        )
    axes.plot(
        x, y, role.marker, color=role.colour, markersize=8, markeredgecolor="white", markeredgewidth=0.8, zorder=above
    )
    if plan.name == findings.pick.plan.name:
        axes.plot(x, y, "o", color=INK, fillstyle="none", markersize=15, markeredgewidth=1.4)


def _role_keys(findings: Findings, but: Sequence[str] = ()) -> list[Line2D]:
    present = dict.fromkeys(role_of(plan.role, len(plan.serves)) for plan in findings.plans if plan.role not in but)
    keys = [_key(role.label, role.colour, role.marker) for role in present]
    return [*keys, _key("recommended", INK, "o", fillstyle="none", markersize=12)]


def _key(label: str, colour: str, marker: str, **look: Any) -> Line2D:
    """A legend entry; look: Line2D's properties where they differ from those of a plain marker."""
    plain = {"linestyle": "", "markersize": 7, "markeredgewidth": 1.2 if look.get("fillstyle") == "none" else 0}
    return Line2D([], [], color=colour, marker=marker, label=label, **{**plain, **look})


def _label(plan: MeasuredPlan, y: float) -> tuple[float, float, str, str]:
    return plan.gmacs, y, plan.name.removeprefix("control "), ROLES[plan.role].colour
