"""Claims over training seeds, on curves whose differences are known."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest
from curve_examples import OWN, SOLVER, STEPS, curves_table

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.reporting.curves import switch_curves
from duodiff_pipeline.reporting.findings import standing
from duodiff_pipeline.reporting.training_seeds import Claim, CurveClaims, Training, claims_over_trainings

T_2_DEGREES, T_4_DEGREES = 4.30265272991, 2.7764451051978  # 97.5 % quantiles of Student's t, from tables
MEAN, SUGGESTED = "mean of 3 of 3 switches", "suggested switch"


def training(seed: int, k: int = 2, duodiff: float = 0.0, shallow: float = 3.0) -> Training:
    curves = switch_curves(curves_table(duodiff, shallow), NoiseSchedule())
    return Training(seed, curves, {(SOLVER, STEPS): k})


def claims(trainings: Sequence[Training]) -> CurveClaims:
    (found,) = claims_over_trainings(trainings)
    return found


def one(found: CurveClaims, other: str, at: str) -> Claim:
    (claim,) = (claim for claim in found.claims if (claim.other, claim.at) == (other, at))
    return claim


def values(claim: Claim) -> list[float]:
    return [difference.value for difference in claim.differences]


# of DuoDiff in each training; deep at its cost has 6 + 0.8 k, so DuoDiff's switch k is at -0.3 k beside these
MOVED = (-0.1, 0.0, 0.1)
THREE = [training(seed, k=k, duodiff=moved) for seed, k, moved in zip((0, 1, 2), (2, 1, 2), MOVED, strict=True)]


@pytest.mark.parametrize(
    ("other", "at", "expected"),
    [
        ("deep", "as many steps", [3.0, 3.0, 3.0]),
        ("deep at its cost", MEAN, [-0.7, -0.6, -0.5]),
        ("deep at its cost", SUGGESTED, [-0.7, -0.3, -0.5]),
        ("middle at its cost", "mean of 1 of 3 switches", [-0.1, 0.0, 0.1]),  # its 2 to 3 GMACs reach k = 2 alone
        ("the order reversed", MEAN, [-2.1, -2.0, -1.9]),
        ("the order reversed", SUGGESTED, [-2.1, -2.5, -1.9]),
        ("deep of as many steps", SUGGESTED, [0.9, 0.5, 1.1]),
    ],
)
def test_every_difference_in_every_training(other, at, expected):
    assert values(one(claims(THREE), other, at)) == pytest.approx(expected)


def test_what_a_training_did_not_measure_is_said_and_not_claimed():
    found = claims(THREE)
    assert found.suggested == (2, 1, 2)
    assert found.missing == ("middle at its cost was not measured at k = 1",)
    assert len(found.claims) == 7
    everywhere = claims([training(seed) for seed in range(3)])
    assert everywhere.missing == ()
    assert len(everywhere.claims) == 8


def test_networks_in_the_shallow_ones_place_are_claimed_better_and_held_against_one_another():
    def with_specialised(seed: int) -> Training:
        table = curves_table(0.1 * seed)
        duodiff = table[(table["role"] == "duodiff") & (table["k"] < STEPS - 1)]  # it serves no further
        better = duodiff.assign(role="specialised", plan="specialised " + duodiff["plan"], fid=duodiff["fid"] - 0.3)
        best = better[better["k"] < STEPS - 2].assign(role="distilled", fid=duodiff["fid"] - 0.3 - 0.1 * (seed + 1))
        best["plan"] = "distilled " + best["plan"]
        curves = switch_curves(pd.concat([table, better, best], ignore_index=True), NoiseSchedule())
        return Training(seed, curves, {(SOLVER, STEPS): 2})

    every = claims([with_specialised(seed) for seed in range(3)]).claims
    found = [c for c in every if c.other.startswith("specialised in")]
    assert {c.other for c in found} == {"specialised in the shallow one's place"}
    assert [(c.plan, c.expected, c.at) for c in found] == [
        ("DuoDiff", "worse", at) for at in ("mean of 2 of 3 switches", *(f"k = {k}" for k in range(1, STEPS - 1)))
    ]
    for claim in found:
        assert values(claim) == pytest.approx([0.3, 0.3, 0.3])
    assert {c.verdict for c in found} == {"holds"}
    (between,) = (c for c in every if c.plan == "distilled")
    assert (between.other, between.expected, between.at) == ("specialised", "better", "mean of 1 of 3 switches")
    assert values(between) == pytest.approx([-0.1, -0.2, -0.3])  # where both serve


def test_intervals_in_one_training_and_over_trainings_written_out():
    claim = one(claims(THREE), "deep at its cost", MEAN)
    in_training = T_4_DEGREES * math.sqrt(sum(OWN**2) / 4 / 5)  # what all plans share cancels
    for difference, value in zip(claim.differences, (-0.7, -0.6, -0.5), strict=True):
        assert (difference.low, difference.high) == pytest.approx((value - in_training, value + in_training))
    over = T_2_DEGREES * 0.1 / math.sqrt(3)
    found = claim.over_trainings
    assert (found.value, found.low, found.high) == pytest.approx((-0.6, -0.6 - over, -0.6 + over))
    assert found.method == "Student t, 95%, 3 training seeds"


def test_a_claim_holds_is_contradicted_or_stays_open():
    found = claims(THREE)
    assert one(found, "deep at its cost", MEAN).verdict == "holds"
    assert one(found, "middle at its cost", "mean of 1 of 3 switches").verdict == "open"
    assert one(found, "deep of as many steps", SUGGESTED).verdict == "holds"  # that the switch costs FID
    worse = claims([training(seed, duodiff=4 + seed / 10, shallow=-2 + seed / 10) for seed in range(3)])
    assert one(worse, "deep at its cost", MEAN).verdict == "contradicted"
    assert one(worse, "deep", "as many steps").verdict == "contradicted"


def test_trainings_that_disagree_leave_open_what_each_of_them_shows():
    disagreeing = [training(seed, duodiff=0.6 + moved) for seed, moved in enumerate((-0.3, 0.0, 0.3))]
    found = one(claims(disagreeing), "deep at its cost", MEAN)
    assert [standing(difference) for difference in found.differences] == ["better", "indistinguishable", "worse"]
    assert found.verdict == "open"


def test_the_switch_0_is_the_deep_network_itself():
    found = claims([training(seed, k=0) for seed in range(3)])
    for other in ("deep at its cost", "deep of as many steps"):
        claim = one(found, other, SUGGESTED)
        assert (values(claim), claim.verdict) == ([0, 0, 0], "open")
    assert len(found.missing) == 2  # neither of the others costs as much


@pytest.mark.parametrize(
    ("trainings", "reason"),
    [
        (THREE[:2], "claims over trainings need at least 3 training seeds, not 2"),
        ([*THREE, THREE[1]], "trainings of the same seed are the same training, and the seeds are 0, 1, 2 and 1"),
        (
            [*THREE[:2], Training(7, [], {})],
            "the trainings of seeds 0 and 7 measured different plans or blocks",
        ),
    ],
)
def test_what_bears_no_claim_is_refused(trainings, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        claims_over_trainings(trainings)
