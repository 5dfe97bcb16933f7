"""DuoDiff against AdaDiff at equal cost, on a curve whose FID rises by 0.1 a switch."""

from dataclasses import replace

import pytest
from report_examples import COST, SEEDS, findings

from duodiff_pipeline.reporting.adaptive import against_adaptive
from duodiff_pipeline.reporting.curves import CurvePoint, SwitchCurve
from duodiff_pipeline.reporting.findings import Findings

STEPS = 20
SHIFTS = (0.3, -0.2, 0.0, 0.1, -0.2)  # of the seed blocks


def curve(solver: str = "ddim", steps: int = STEPS) -> SwitchCurve:
    points = [
        CurvePoint(
            f"k={k}",
            steps,
            k,
            k * COST["shallow"] + (steps - k) * COST["deep"],
            tuple(8 + 0.1 * k + shift for shift in SHIFTS),
        )
        for k in range(steps + 1)
    ]
    return SwitchCurve(solver, steps, tuple(points), ((),) * (steps + 1), tuple(range(steps)))


def altered(found: Findings, **changes) -> Findings:
    """The findings, with another AdaDiff."""
    (plan,) = found.adaptive
    return replace(found, plans=(*(p for p in found.plans if p != plan), replace(plan, **changes)))


def test_the_switch_of_equal_cost_lies_between_two_by_macs_and_by_seconds():
    found = findings()
    deep, shallow = found.baseline.seconds_per_image, found.shallow.plan.seconds_per_image
    found = altered(found, seconds_per_image=0.675 * deep + 0.325 * shallow)
    (plan,) = found.adaptive
    (against,) = against_adaptive(found, [curve(), curve("dpmsolver++"), curve(steps=10)])
    assert against.plan == plan
    k = (STEPS * COST["deep"] - plan.gmacs) / (COST["deep"] - COST["shallow"])
    own = dict(zip(plan.record.seeds, plan.fid_blocks, strict=True))
    expected = sum(8 + 0.1 * k + shift - own[seed] for seed, shift in zip(SEEDS, SHIFTS, strict=True)) / len(SEEDS)
    assert against.at_gmacs is not None
    assert against.at_gmacs.value == pytest.approx(expected)
    assert against.at_seconds is not None
    assert against.at_seconds.value - against.at_gmacs.value == pytest.approx(0.1 * (6.5 - k))


@pytest.mark.parametrize("factor", [0.1, 1.5])
def test_what_no_switch_costs_is_not_compared(factor):
    found = findings()
    (plan,) = found.adaptive
    deep = found.baseline
    dear = {"fid": plan.record.model_copy(update={"gmacs": factor * deep.gmacs})}
    moved = altered(found, records={**plan.records, **dear}, seconds_per_image=factor * deep.seconds_per_image)
    (against,) = against_adaptive(moved, [curve()])
    assert (against.at_gmacs, against.at_seconds) == (None, None)
