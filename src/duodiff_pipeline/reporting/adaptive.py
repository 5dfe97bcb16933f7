"""DuoDiff against AdaDiff, at equal multiply-accumulates and at equal seconds.

Both have the same solver and steps. What AdaDiff costs is seldom what a switch costs, so the FID of the switches is
interpolated between the two around that cost, block by block. The seconds of a switch are those of the shallow and of
the deep network, each for the share of the evaluations that it serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics.intervals import Interval, paired_difference
from .curves import SwitchCurve
from .findings import Findings
from .measured import MeasuredPlan


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
