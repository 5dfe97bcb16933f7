"""Where the exits suggest, the loss gap predicts and the search finds a switch, on the grids of the measured curves."""

from collections.abc import Mapping
from typing import Any

from .curves import SwitchCurve
from .report_data import ReportData
from .switches import SwitchRange


def agreement(data: ReportData) -> dict[str, Any]:
    """Where each method would switch, as k on every curve's grid; bold where its range meets that of free switches."""
    rows = [
        (f"exit statistics, {switch.label}", [_by_exits(switch, curve) for curve in data.curves])
        for switch in data.suggested
    ]
    rows.append(("loss gap", [_by_loss_gap(loss_gap_of(data, curve), curve) for curve in data.curves]))
    rows.append(("search, on its front", [_searched(data, curve) for curve in data.curves]))
    free = [f"{low} to {high}" if low < high else str(low) for low, high in (c.free for c in data.curves)]
    rows.append(("measured: the last switch that is free", free))
    return {"heads": [curve.name for curve in data.curves], "rows": rows}


def loss_gap_of(data: ReportData, curve: SwitchCurve) -> Mapping[str, Any]:
    """The switch that the loss gap suggests for the curve's solver and steps."""
    return next(s for s in data.loss_gap_switches if (s["solver"], s["steps"]) == (curve.solver, curve.steps))


def loss_gap_excess(data: ReportData, curve: SwitchCurve) -> list[float]:
    """The excess error of every switch of the curve."""
    own = data.loss_gap[(data.loss_gap["solver"] == curve.solver) & (data.loss_gap["steps"] == curve.steps)]
    after = own.set_index("evaluation")["excess"]
    return [0.0, *(float(after[k - 1]) for k in curve.ks[1:])]


def _by_exits(switch: SwitchRange, curve: SwitchCurve) -> str:
    if switch.edge is None or switch.low is None or switch.high is None:
        return "none"
    edges = (switch.edge, switch.high, switch.low)  # a later switch is an earlier timestep
    k, low, high = (sum(n >= edge for n in curve.grid) for edge in edges)
    return _cell(k, low, high, curve)


def _by_loss_gap(own: Mapping[str, Any], curve: SwitchCurve) -> str:
    return _cell(own["k"], own["k_low"], own["k_high"], curve)


def _cell(k: int, low: int, high: int, curve: SwitchCurve) -> str:
    text, free = f"{k} ({low} to {high})", curve.free
    return f"**{text}**" if low <= free[1] and free[0] <= high else text


def _searched(data: ReportData, curve: SwitchCurve) -> str:
    serve, history = data.parameters.everywhere, data.parameters.switch_curves.history
    front = data.trials[data.trials["on_front"]]
    two = front[front["serves"].map(list).map(lambda serves: serves == [serve[0], serve[-1]])]
    own = two[(two["solver"] == curve.solver) & (two["steps"] == curve.steps) & (two["history"] == history)]
    return ", ".join(str(k) for k in sorted(set(own["k"].astype(int)))) or "none on the front"
