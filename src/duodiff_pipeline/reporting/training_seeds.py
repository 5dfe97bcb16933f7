"""What holds over training seeds: differences of FID between methods, with the trainings as the sample.

In one training a difference is paired over its seed blocks; that interval says what other noise would give, and nothing
of other weights. So each training gives a claim one value, the mean over its blocks, and the interval is that of the
mean over trainings. Their blocks have the same seeds: how far those move all trainings alike is not in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from ..metrics.intervals import MIN_TRAININGS, Interval, paired_difference, training_interval
from .curves import AT_ITS_COST, SwitchCurve, rival_name
from .findings import ClaimVerdict, standing
from .wording import listed

Expected = Literal["better", "worse"]


@dataclass(frozen=True)
class Training:
    """One training seed; suggested: by solver and number of steps, the switch that its loss gap suggests."""

    seed: int
    curves: Sequence[SwitchCurve]
    suggested: Mapping[tuple[str, int], int]


@dataclass(frozen=True)
class Claim:
    """That by FID `plan` is `expected` against `other`, at the switches that `at` names.

    differences: FID of `plan` minus that of `other` in every training, paired over its seed blocks.
    """

    plan: str
    expected: Expected
    other: str
    at: str
    differences: tuple[Interval, ...]

    @property
    def over_trainings(self) -> Interval:
        return training_interval([difference.value for difference in self.differences])

    @property
    def verdict(self) -> ClaimVerdict:
        """holds or contradicted where the whole interval over trainings lies on one side of 0, otherwise open."""
        found = standing(self.over_trainings)
        if found == "indistinguishable":
            return "open"
        return "holds" if found == self.expected else "contradicted"


@dataclass(frozen=True)
class CurveClaims:
    """What is claimed of one solver and number of steps.

    suggested: the switch that the loss gap suggests in every training; missing: what was not measured there.
    """

    solver: str
    steps: int
    suggested: tuple[int, ...]
    claims: tuple[Claim, ...]
    missing: tuple[str, ...]


def claims_over_trainings(trainings: Sequence[Training]) -> list[CurveClaims]:
    """The claims of every curve, which are the same in all trainings.

    Raises ValueError for fewer than 3 training seeds, one seed twice, and trainings that measured different plans.
    """
    seeds = [training.seed for training in trainings]
    if len(seeds) < MIN_TRAININGS:
        raise ValueError(f"claims over trainings need at least {MIN_TRAININGS} training seeds, not {len(seeds)}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"trainings of the same seed are the same training, and the seeds are {listed(seeds)}")
    for other in trainings[1:]:
        if _measured(other) != _measured(trainings[0]):
            raise ValueError(f"the trainings of seeds {seeds[0]} and {other.seed} measured different plans or blocks")
    return [_claims(trainings, curves) for curves in zip(*(training.curves for training in trainings), strict=True)]


def _measured(training: Training) -> list[Any]:
    """What trainings must have in common: plans, their controls and the number of blocks."""
    return [
        (
            curve.solver,
            curve.steps,
            [(point.plan, len(point.blocks)) for point in curve.points],
            [[rival.role for rival in own if rival.role in AT_ITS_COST] for own in curve.rivals],
        )
        for curve in training.curves
    ]


def _claims(trainings: Sequence[Training], curves: Sequence[SwitchCurve]) -> CurveClaims:
    """curves: the same one of every training."""
    first = curves[0]
    suggested = tuple(training.suggested[first.solver, first.steps] for training in trainings)
    shallow = tuple(curve.against_deep(curve.ks[-1]) for curve in curves)
    claims, missing = [Claim("shallow", "worse", "deep", "as many steps", shallow)], []
    for role in first.roles:
        other = rival_name(role)
        reached = _reached(curves, role)
        switches = [k for k in first.ks[1:-1] if k in reached]
        if not switches:
            continue
        expected: Expected = "better" if role in AT_ITS_COST else "worse"
        mean = tuple(_against(curve, role, switches) for curve in curves)
        at = f"mean of {len(switches)} of {len(first.ks) - 2} switches"
        claims.append(Claim("DuoDiff", expected, other, at, mean))
        if role not in AT_ITS_COST:
            for k in switches:
                own = tuple(_against(curve, role, [k]) for curve in curves)
                claims.append(Claim("DuoDiff", expected, other, f"k = {k}", own))
        elif without := sorted(set(suggested) - reached):
            missing.append(f"{other} was not measured at k = {listed(without)}")
        else:
            own = tuple(_against(curve, role, [k]) for curve, k in zip(curves, suggested, strict=True))
            claims.append(Claim("DuoDiff", expected, other, "suggested switch", own))
    for a, b in combinations([role for role in first.roles if role not in AT_ITS_COST], 2):
        if switches := [k for k in first.ks[1:-1] if k in _reached(curves, a) & _reached(curves, b)]:
            at = f"mean of {len(switches)} of {len(first.ks) - 2} switches"
            claims.append(Claim(a, "better", b, at, tuple(_between(curve, a, b, switches) for curve in curves)))
    cost = tuple(curve.against_deep(k) for curve, k in zip(curves, suggested, strict=True))
    claims.append(Claim("DuoDiff", "worse", "deep of as many steps", "suggested switch", cost))
    return CurveClaims(first.solver, first.steps, suggested, tuple(claims), tuple(missing))


def _reached(curves: Sequence[SwitchCurve], role: str) -> set[int]:
    """The switches at which a rival was measured in every training, for a stage may differ in each."""
    return set.intersection(*(set(curve.against(role)) for curve in curves))


def _between(curve: SwitchCurve, a: str, b: str, switches: Sequence[int]) -> Interval:
    """Mean over switches of the FID of one rival minus that of another, paired over seed blocks."""
    own, others = ([curve.against(role)[k].blocks for k in switches] for role in (a, b))
    return paired_difference(np.mean(own, axis=0).tolist(), np.mean(others, axis=0).tolist())


def _against(curve: SwitchCurve, role: str, switches: Sequence[int]) -> Interval:
    """Mean over switches of the FID of DuoDiff minus that of a rival, paired over seed blocks."""
    rivals = curve.against(role)
    own = [curve.at(k)[0].blocks for k in switches]
    others = [rivals[k].blocks for k in switches]
    return paired_difference(np.mean(own, axis=0).tolist(), np.mean(others, axis=0).tolist())
