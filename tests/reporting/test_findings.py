from dataclasses import replace

import pandas as pd
import pytest
from report_examples import KID_FLOOR, MORE, PLANS, evaluation, findings, parameters

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.metrics.reference import Floor
from duodiff_pipeline.reporting.adaptive import exits
from duodiff_pipeline.reporting.caveats import caveats
from duodiff_pipeline.reporting.findings import weigh
from duodiff_pipeline.reporting.first_screen import answers
from duodiff_pipeline.reporting.measured import measured_plans
from duodiff_pipeline.reporting.statements import against, headline, reasons

FIDS = {name: plan[3] for name, plan in PLANS.items()}


@pytest.mark.parametrize(
    ("fids", "verdict", "pick", "said"),
    [
        (
            {},
            "switch",
            "duodiff ddim 20 k=7",
            "Switch after 7 of 20 evaluations between shallow and deep: 23% less work",
        ),
        ({"shallow ddim 20": 8.3}, "shallow all the way", "shallow ddim 20", "Shallow all the way is enough"),
        (
            {"deep dpmsolver++ 10": 8.2},
            "deep for less",
            "deep dpmsolver++ 10",
            "Stay with deep, at 10 evaluations instead of 20",
        ),
        ({"duodiff ddim 20 k=7": 11.0}, "stay with deep", "deep ddim 20", "Stay with deep: no switch is free"),
    ],
)
def test_verdict(fids, verdict, pick, said):
    found = findings(FIDS | fids)
    assert (found.verdict, found.pick.plan.name, headline(found)) == (verdict, pick, said)


def test_pick_is_the_cheapest_that_is_not_credibly_worse_even_if_another_is_better():
    found = findings(FIDS | {"duodiff dpmsolver++ 10 k=4": 8.3, "duodiff ddim 20 k=7": 6.0})
    assert found.pick.plan.name == "duodiff dpmsolver++ 10 k=4"


def test_a_better_plan_that_costs_more_than_the_baseline_is_no_saving():
    kept = ["deep dpmsolver++ 10", "shallow ddim 20", "duodiff ddim 20 k=7"]
    found = findings({name: FIDS[name] for name in kept} | {"duodiff ddim 20 k=7": 5.0})
    assert found.verdict == "stay with deep"
    assert [c.plan.name for c in found.cheaper] == ["shallow ddim 20"]


def test_where_nothing_is_free_every_price_is_named():
    (reason,) = reasons(findings(FIDS | {"duodiff ddim 20 k=7": 11.0}))
    assert "saves 23% for FID +2.80 (95% interval +2.03 to +3.57)" in reason
    assert all(name in reason for name in ("shallow ddim 20", "duodiff dpmsolver++ 10 k=4", "deep dpmsolver++ 10"))
    assert "5 blocks of 599 images" in reason


def test_reason_names_saving_difference_interval_and_blocks():
    found = findings()
    difference = found.pick.difference
    assert difference.value == pytest.approx(0.1)
    assert difference.low <= 0 <= difference.high
    assert reasons(found)[0] == (
        "With duodiff ddim 20 k=7 an image takes 0.275 GMACs, 23% less than with deep ddim 20, and FID is not credibly "
        "worse: +0.10 (95% interval −0.67 to +0.87) over 5 blocks of 599 images."
    )


@pytest.mark.parametrize(
    ("fewer_steps", "standing", "said"),
    [
        (5.0, "better", "is better"),
        (8.4, "indistinguishable", "is not credibly different from it"),
        (12.0, "worse", "is worse"),
    ],
)
def test_control_with_fewer_steps(fewer_steps, standing, said):
    found = findings(FIDS | {"control fewer steps ddim 15": fewer_steps})
    control = found.controls["duodiff ddim 20 k=7"][0]
    assert (control.what, control.comparison.standing) == ("deep with 15 evaluations", standing)
    assert f"deep with 15 evaluations {said}" in against(control)
    assert bool(found.rivals) == (standing == "better")
    assert any("15" in reason for reason in reasons(found)[1:])


def test_a_control_that_is_better_at_the_same_cost_stands_in_the_headline():
    found = findings(FIDS | {"control middle ddim 27": 4.0})
    assert headline(found).endswith("but control middle ddim 27 does better at its cost")


def test_another_solver_that_is_better_at_the_same_cost_stands_in_the_headline():
    kept = {name: FIDS[name] for name in ("deep ddim 20", "shallow ddim 20")}
    found = findings(kept | {"deep dpmsolver++ 20": 5.0})
    assert headline(found).startswith("Stay with deep: no switch is free")
    assert headline(found).endswith("but deep dpmsolver++ 20 does better at its cost")


def test_an_adadiff_that_is_not_worse_and_cheaper_stands_in_the_headline():
    kept = {name: FIDS[name] for name in ("deep ddim 20", "shallow ddim 20", "adadiff ddim 20 u<=0.05")}
    assert headline(findings(kept | {"adadiff ddim 20 u<=0.05": 8.2})).endswith(
        "adadiff ddim 20 u<=0.05 is cheaper still"
    )


def test_every_duodiff_meets_all_its_controls():
    controls = findings().controls
    expected = {
        "duodiff ddim 20 k=7": ["fewer steps ddim 15", "middle ddim 27", "reversed ddim 20 k=13"],
        "duodiff dpmsolver++ 10 k=4": [
            "fewer steps dpmsolver++ 7",
            "middle dpmsolver++ 13",
            "reversed dpmsolver++ 10 k=6",
        ],
    }
    assert {name: [c.comparison.plan.name for c in own] for name, own in controls.items()} == {
        name: [*(f"control {c}" for c in own), "adadiff ddim 20 u<=0.05"] for name, own in expected.items()
    }


THREE, OTHERS = "duodiff ddim 20 k=5,12", "duodiff ddim 20 k=7 middle-deep"


def test_three_stages_and_other_networks_meet_all_their_controls():
    controls = findings(FIDS | {name: plan[3] for name, plan in MORE.items()}).controls
    same = ["fewer steps ddim 15", "middle ddim 27"]
    assert [c.comparison.plan.name.removeprefix("control ") for c in controls[THREE]] == [
        *same,
        "adadiff ddim 20 u<=0.05",
        "reversed ddim 20 k=8,15",
    ]
    assert controls[THREE][3].what == "the order reversed, deep first"
    assert controls[OTHERS][3].comparison.plan.name == "control reversed ddim 20 k=13 deep-middle"


def test_three_stages_recommended_say_where_each_switch_lies():
    found = findings(FIDS | {name: plan[3] for name, plan in MORE.items()})
    assert found.pick.plan.name == THREE
    assert headline(found) == "Switch after 5 and 12 of 20 evaluations between shallow, middle and deep: 31% less work"
    extractor = {"name": "features", "learns": "classes", "held_out_accuracy": 0.98}
    where, between, *_ = answers(found, parameters(), (), extractor)
    assert where.answer == "k = 5 and 12 of 20 evaluations"
    assert where.details[0] == (
        "With ddim, 20 steps: shallow to middle between timesteps 799 and 749 and middle to deep between timesteps 449 "
        "and 399."
    )
    assert between.answer == "shallow → middle → deep"
    assert len(between.details) == 3


def test_a_control_that_is_evaluated_in_another_role_is_found():
    without = {name: fid for name, fid in FIDS.items() if "fewer steps dpm" not in name}
    first = findings(without).controls["duodiff dpmsolver++ 10 k=4"][0]
    assert first.comparison.plan.name == "deep dpmsolver++ 10"


def test_differences_are_paired_over_blocks():
    """What all plans share in a block widens their own intervals, but not that of their difference."""
    comparison = next(c for c in findings(own_noise=0.0).against_deep if c.plan.role == "duodiff")
    record, difference = comparison.plan.record, comparison.difference
    assert record.interval_high - record.interval_low > 0.5
    assert (difference.low, difference.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_floor_ratio_only_at_the_same_n():
    assert findings(floor=Floor((2.0, 2.0), 599)).floor_ratio == pytest.approx(4.1)
    other = findings(floor=Floor((2.0, 2.0), 100))
    assert other.floor_ratio is None
    assert any("100" in caveat for caveat in caveats(other, 0.98))


def test_no_caveats_but_the_limits_of_the_interval_where_all_is_well():
    assert [c.split(":")[0] for c in caveats(findings(), 0.98)] == ["Not credibly worse is not equal"]


def test_caveats_name_what_is_wrong():
    kept = {"deep ddim 20": 20.0, "shallow ddim 20": 20.1}
    said = " ".join(caveats(findings(kept), 0.5))
    for part in (
        "8.57 times the floor",
        "50% of the held-out",
        "not credibly better than the shallow one",
        "no schedule",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("full", "plateau", "once", "said"),
    [
        ([0.6, 0.5], [0.4, 0.25], [1.0, 0.2], "they hold 75% to 100%, and 20% to 100% of images change exactly once."),
        ([1.0], [0.0], [0.0], "they hold 100%, and 0% of images change exactly once."),
    ],
)
def test_exits_are_held_against_one_switch_an_image(full, plateau, once, said):
    summary = pd.DataFrame({"share_full": full, "share_plateau": plateau, "share_one_change": once})
    assert exits(summary).endswith(said)


def _of(inputs, plan, metric="fid"):
    return next(r for r in inputs["records"] if (r["denoiser"], r["name"]) == (plan, metric))


def _broken(change):
    inputs = evaluation()
    change(inputs)
    return inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda i: i["records"].remove(_of(i, "duodiff ddim 20 k=7")),
            "records: no fid of the evaluated plan 'duodiff ddim",
        ),
        (
            lambda i: i["records"].remove(_of(i, "deep ddim 20", "kid")),
            "records: no kid of the evaluated plan 'deep ddim 20'",
        ),
        (
            lambda i: _of(i, "shallow ddim 20").update(value=1e9),
            "records: shallow ddim 20: the record: .*does not hold",
        ),
        (
            lambda i: _of(i, "shallow ddim 20").update(n_generated=100),
            "deep ddim 20 and shallow ddim 20 do not compare: n_generated",
        ),
        (lambda i: _of(i, "shallow ddim 20").update(extractor_sha256="c" * 64), "do not compare: extractor_sha256"),
        (lambda i: _of(i, "shallow ddim 20").update(seeds=[101, 102, 103, 105, 104]), "do not pair: seeds"),
        (
            lambda i: _of(i, "shallow ddim 20", "memorisation_pixels").update(reference_sha256="c" * 64),
            "do not compare: reference_sha256",
        ),
        (lambda i: i["timings"]["sampling"].pop("shallow ddim 20"), "timings: no seconds of .*'shallow ddim 20'"),
        (
            lambda i: i.update(seed_blocks=i["seed_blocks"].iloc[1:]),
            r"seed_blocks: 'deep ddim 20' lacks the seeds \[101\]",
        ),
        (lambda i: i.update(evaluated=i["evaluated"][1:]), "the first plan must be the baseline"),
        (lambda i: i["evaluated"].pop(1), "none has the role shallow"),
    ],
)
def test_bad_input_is_one_line(change, message):
    with pytest.raises(InputError, match=message) as raised:
        measured_plans(**_broken(change))
    assert "\n" not in str(raised.value)


def test_a_shallow_network_that_costs_more_leaves_only_the_baseline():
    inputs = evaluation({name: FIDS[name] for name in ("deep ddim 20", "shallow ddim 20")})
    _of(inputs, "shallow ddim 20")["gmacs"] = 1.0
    found = weigh(measured_plans(**inputs), Floor((2.0, 3.0), 599), KID_FLOOR)
    assert found.pick.plan is found.pick.other is found.baseline
    assert reasons(found) == ["No network alone and no DuoDiff costs less than deep ddim 20."]


def test_a_saving_that_the_clock_does_not_show_is_said():
    found = findings()
    slow = replace(found.pick.plan, speed_up=0.95, speed_up_low=0.8, speed_up_high=1.1)
    said = caveats(replace(found, pick=replace(found.pick, plan=slow)), 0.98)
    assert any("does not show by the clock" in caveat and "0.95 times as fast" in caveat for caveat in said)


def _weighed(inputs):
    return weigh(measured_plans(**inputs), Floor((1.7, 2.4, 2.9), 599), KID_FLOOR)


def test_a_recommendation_that_kid_finds_worse_is_said():
    inputs = evaluation()
    table = inputs["seed_blocks"]
    table.loc[table["plan"] == "duodiff ddim 20 k=7", "kid"] += 4.0
    found = _weighed(inputs)
    assert (found.pick.standing, found.pick.kid_standing) == ("indistinguishable", "worse")
    said = [caveat for caveat in caveats(found, 0.98) if "KID contradicts FID" in caveat]
    assert len(said) == 1
    assert "by KID duodiff ddim 20 k=7 is credibly worse than deep ddim 20, +4.3 (95% interval" in said[0]


def test_a_table_wide_shift_of_kid_contradicts_nothing():
    inputs = evaluation()
    inputs["seed_blocks"]["kid"] += 4.0
    assert not any("KID" in caveat for caveat in caveats(_weighed(inputs), 0.98))


@pytest.mark.parametrize(
    ("low", "said"),
    [
        (0.66, None),
        (
            0.68,
            "Copies: 1 of 12 plans draw images credibly nearer to training than to held-out ones (most: 70% of the "
            "images of shallow ddim 20 in pixels, 67% by chance). FID and KID reward that.",
        ),
    ],
)
def test_copies_are_said_only_where_the_whole_interval_lies_above_chance(low, said):
    inputs = evaluation()
    _of(inputs, "shallow ddim 20", "memorisation_pixels").update(value=0.7, interval_low=low, interval_high=0.73)
    found = _weighed(inputs)
    assert [plan.name for plan in found.plans if plan.memorises] == (["shallow ddim 20"] if said else [])
    assert [caveat for caveat in caveats(found, 0.98) if "Copies" in caveat] == ([said] if said else [])
