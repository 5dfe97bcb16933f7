"""FID over every switch, put against what costs as much: the deep or the middle network with fewer steps.

Steps are whole, so a switch seldom costs exactly what a control does. A network's FID at the cost of a switch is
interpolated between its two numbers of steps around it, linearly in cost and block by block, so that differences stay
paired over the blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ..diffusion.noise import NoiseSchedule
from ..diffusion.solvers import Solver, SolverName
from ..files import sha256_of_json
from ..metrics.intervals import Interval, block_interval, paired_difference
from .findings import Standing, standing

AT_ITS_COST = {"deep": "deep at its cost", "middle": "middle at its cost", "reversed": "the order reversed"}


def rival_name(role: str) -> str:
    """What stands against a switch; a role that is none of the controls names who serves in the shallow one's place."""
    return AT_ITS_COST.get(role, f"{role} in the shallow one's place")


@dataclass(frozen=True)
class CurvePoint:
    """One plan of a curve; blocks: its FID in every seed block, in the order of the seeds."""

    plan: str
    steps: int
    k: int
    gmacs: float
    blocks: tuple[float, ...]

    @property
    def fid(self) -> Interval:
        return block_interval(self.blocks)


@dataclass(frozen=True)
class Rival:
    """What stands against a switch at its cost; difference: FID of the switch minus that of the rival.

    blocks: FID of the rival in every seed block, in the order of the seeds.
    """

    role: str
    difference: Interval
    blocks: tuple[float, ...]

    @property
    def standing(self) -> Standing:
        """Of the switch."""
        return standing(self.difference)


@dataclass(frozen=True)
class SwitchCurve:
    """One solver and number of steps.

    points: one for every k at which the solver may switch, from 0 to NFE; rivals: of each point, those that reach its
    cost; grid: the timestep of every evaluation.
    """

    solver: str
    steps: int
    points: tuple[CurvePoint, ...]
    rivals: tuple[tuple[Rival, ...], ...]
    grid: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.solver} {self.steps}"

    @property
    def ks(self) -> tuple[int, ...]:
        return tuple(point.k for point in self.points)

    def at(self, k: int) -> tuple[CurvePoint, tuple[Rival, ...]]:
        """A switch and its rivals."""
        return self.points[self.ks.index(k)], self.rivals[self.ks.index(k)]

    def against_deep(self, k: int) -> Interval:
        """FID of a switch minus that of the deep network with as many steps."""
        return paired_difference(self.at(k)[0].blocks, self.points[0].blocks)

    @property
    def free(self) -> tuple[int, int]:
        """(low, high): up to low no switch is credibly worse than the deep network, and beyond high every one is."""
        worse = [standing(self.against_deep(k)) == "worse" for k in self.ks[1:]]
        low = len(list(takewhile(lambda is_worse: not is_worse, worse)))
        high = len(worse) - len(list(takewhile(bool, reversed(worse))))
        return self.ks[low], self.ks[high]

    def against(self, role: str) -> dict[int, Rival]:
        """The rival of one role by k, where it reaches the cost of the switch."""
        return {
            point.k: rival
            for point, own in zip(self.points, self.rivals, strict=True)
            for rival in own
            if rival.role == role
        }

    @property
    def roles(self) -> list[str]:
        """Of all rivals, the controls first."""
        found = {rival.role for own in self.rivals for rival in own}
        return [*(role for role in AT_ITS_COST if role in found), *sorted(found - AT_ITS_COST.keys())]

    def rank_correlation(self, excess_k: Sequence[float]) -> float:
        """Spearman's, between FID and the excess error of every switch."""
        return float(spearmanr([p.fid.value for p in self.points], excess_k).statistic)


def switch_curves(table: pd.DataFrame, noise: NoiseSchedule) -> list[SwitchCurve]:
    """The curves in the table of the pipeline switch_curves, fewest steps first."""
    curves = []
    for key, own in table[table["role"] == "duodiff"].groupby(["solver", "steps"]):
        solver, steps = cast(tuple[SolverName, int], key)
        run = Solver(solver, steps)
        same = table[table["solver"] == solver]
        ends = same[(same["steps"] == steps) & same["role"].isin(["deep", "shallow"])]
        ends = ends.assign(k=np.where(ends["role"] == "deep", 0, run.switches[-1]))
        points = _points(pd.concat([own, ends]))
        switched = same[(same["steps"] == steps) & same["k"].notna()]
        at_k = {str(role): {p.k: p for p in _points(rows)} for role, rows in switched.groupby("role")}
        mirrored = dict(zip(run.switches, reversed(run.switches), strict=True))
        at_k["reversed"] = {mirrored[k]: point for k, point in at_k.get("reversed", {}).items()}
        alone = {role: _points(same[same["role"] == role].assign(k=0)) for role in ("deep", "middle")}
        rivals = []
        for point in points:
            found = {role: at for role, of in alone.items() if (at := _at_cost(of, point.gmacs))}
            found |= {role: own[point.k].blocks for role, own in at_k.items() if role != "duodiff" and point.k in own}
            rivals.append(tuple(Rival(role, paired_difference(point.blocks, at), at) for role, at in found.items()))
        curves.append(SwitchCurve(solver, steps, tuple(points), tuple(rivals), run.grid(noise)))
    return curves


def measured_with(
    networks_sha256: Mapping[str, str],
    reference_sha256: str,
    n_images: int,
    guidance: Mapping[str, float] | None = None,
) -> str:
    """Identifies what a table of curves was measured with: networks and guidance by role, reference, images a block."""
    guided = {role: scale for role, scale in (guidance or {}).items() if scale != 1}
    return sha256_of_json([networks_sha256, reference_sha256, n_images, *([guided] if guided else [])])


def controls(table: pd.DataFrame) -> dict[str, list[CurvePoint]]:
    """Networks alone, and the order reversed, by role; k is 0 where one network serves all."""
    roles = ("deep", "middle", "reversed")
    return {role: _points(table[table["role"] == role].fillna({"k": 0})) for role in roles}


def _points(rows: pd.DataFrame) -> list[CurvePoint]:
    """By k, then cost."""
    found = [
        CurvePoint(
            plan=str(plan),
            steps=int(own["steps"].iloc[0]),
            k=int(own["k"].iloc[0]),
            gmacs=float(own["gmacs"].iloc[0]),
            blocks=tuple(own.sort_values("seed")["fid"]),
        )
        for plan, own in rows.groupby("plan")
    ]
    return sorted(found, key=lambda point: (point.k, point.gmacs))


def _at_cost(points: Sequence[CurvePoint], gmacs: float) -> tuple[float, ...] | None:
    """FID a block at that cost, between the two points around it; None where they do not reach it."""
    costs = [point.gmacs for point in points]
    if not costs or not costs[0] <= gmacs <= costs[-1]:
        return None
    blocks = np.array([point.blocks for point in points])
    return tuple(float(np.interp(gmacs, costs, own)) for own in blocks.T)
