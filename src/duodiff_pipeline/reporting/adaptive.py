"""Early exits: whether they are bimodal, what they save by the clock, and DuoDiff against them.

DuoDiff and AdaDiff are held against each other at equal multiply-accumulates and at equal seconds, with the same solver
and steps. What AdaDiff costs is seldom what a switch costs, so the FID of the switches is interpolated between the two
around that cost, block by block. The seconds of a switch are those of the shallow and of the deep network, each for the
share of the evaluations that it serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..metrics.intervals import Interval, paired_difference
from .curves import SwitchCurve
from .findings import Findings
from .measured import MeasuredPlan
from .wording import percent


@dataclass(frozen=True)
class AgainstAdaptive:
    """One AdaDiff; at_gmacs, at_seconds: FID of DuoDiff minus its own, None where no switch reaches that cost."""

    plan: MeasuredPlan
    at_gmacs: Interval | None
    at_seconds: Interval | None


def against_adaptive(findings: Findings, curves: Sequence[SwitchCurve]) -> list[AgainstAdaptive]:
    """Every AdaDiff whose solver and steps have a curve."""
    deep, shallow = findings.baseline, findings.shallow.plan
    found = []
    for plan in findings.adaptive:
        for curve in curves:
            if plan.solver.eta or (curve.solver, curve.steps) != (plan.solver.name, plan.solver.steps):
                continue
            shares = np.array(curve.ks) / curve.ks[-1]
            seconds = (1 - shares) * deep.seconds_per_image + shares * shallow.seconds_per_image
            gmacs = np.array([point.gmacs for point in curve.points])
            own = dict(zip(plan.record.seeds, plan.fid_blocks, strict=True))
            blocks = tuple(own[seed] for seed in sorted(own))
            differences = (
                _difference(curve, gmacs, plan.gmacs, blocks),
                _difference(curve, seconds, plan.seconds_per_image, blocks),
            )
            found.append(AgainstAdaptive(plan, *differences))
    return found


def _difference(
    curve: SwitchCurve, costs: NDArray[np.float64], cost: float, blocks: Sequence[float]
) -> Interval | None:
    """costs: of every switch, falling."""
    if not costs[-1] <= cost <= costs[0]:
        return None
    of_switches = np.array([point.blocks for point in curve.points])
    at_cost = [float(np.interp(cost, costs[::-1], one[::-1])) for one in of_switches.T]
    return paired_difference(at_cost, blocks)


@dataclass(frozen=True)
class ExitSpeed:
    """The speed-up of early exits against the baseline, three ways: as published, by what was computed, by the clock.

    published: L / mean exit depth, for the published times are those of a whole network times the mean exit depth over
    L; with all probes and heads, which is left out here and makes them 1 to 4 % longer. macs: the ratio of
    multiply-accumulates, probes and heads included; measured: with its extremes over the blocks.
    """

    name: str
    exit_depth: str
    published: str
    macs: str
    measured: str


def exit_speeds(findings: Findings, full_depth: int) -> list[ExitSpeed]:
    """One for every AdaDiff with the baseline's solver and steps; full_depth: L."""
    return [
        ExitSpeed(
            plan.name,
            f"{plan.exit_depth:.1f} of {full_depth}",
            f"{full_depth / plan.exit_depth:.2f}" if plan.exit_depth else "unbounded",
            f"{findings.baseline.gmacs / plan.gmacs:.2f}",
            f"{plan.speed_up:.2f} ({plan.speed_up_low:.2f} to {plan.speed_up_high:.2f})",
        )
        for plan in findings.adaptive
        if plan.solver == findings.baseline.solver
    ]


def exits(summary: pd.DataFrame) -> str:
    """Whether exits are bimodal, with one switch an image; summary as `exit_summary` gives it."""
    two_depths, one_change = exit_shares(summary)
    return (
        "Were exits bimodal, with one switch an image, full depth and the plateau would hold all evaluations and every "
        f"image would change exactly once. Over the thresholds they hold {two_depths}, and {one_change} of images "
        "change exactly once."
    )


def exit_shares(summary: pd.DataFrame) -> tuple[str, str]:
    """Of the evaluations at full depth or on the plateau, and of the images that change once, over the thresholds."""
    return _span(summary["share_full"] + summary["share_plateau"]), _span(summary["share_one_change"])


def _span(shares: pd.Series) -> str:
    low, high = percent(float(shares.min())), percent(float(shares.max()))
    return low if low == high else f"{low} to {high}"
