"""What is said of exit schedules: seconds and FID against the whole network, and the paper's claim."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_examples import (
    PLANS,
    evaluation,
    findings,
    parameters,
    report_data,
)

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.metrics.intervals import Interval
from duodiff_pipeline.reporting.answer import render_answer
from duodiff_pipeline.reporting.exit_schedules import claim, savings
from duodiff_pipeline.reporting.measured import measured_plans
from duodiff_pipeline.reporting.page import draw_figures, render_page

FIDS = {name: plan[3] for name, plan in PLANS.items()}
ASE = {"ase demo ddim 20": 8.3, "ase demo dpmsolver++ 10": 9.5, "ase searched ddim 20": 8.0}


def found(**fids):
    return savings(findings({**FIDS, **ASE, **fids}), "deep", timed({**FIDS, **ASE, **fids}))


def at_cost(plan, gmacs):
    """Its records, but at another cost."""
    return {metric: record.model_copy(update={"gmacs": gmacs}) for metric, record in plan.records.items()}


def timed(fids):
    return evaluation(fids)["timings"]["by_batch"]


def test_seconds_are_paired_with_the_whole_network_at_the_same_solver_and_steps():
    ddim, dpm, searched = found()
    assert [saving.whole.name for saving in (ddim, dpm, searched)] == [
        "deep ddim 20",
        "deep dpmsolver++ 10",
        "deep ddim 20",
    ]
    largest = timed({**FIDS, **ASE})[-1]
    assert largest["images"] == 64
    spent = {name: np.array(one["rounds"]) for name, one in largest["plans"].items()}
    shares = 1 - spent["ase demo ddim 20"] / spent["deep ddim 20"]
    assert ddim.seconds.value == pytest.approx(shares.mean())
    assert ddim.seconds.low == pytest.approx(ddim.seconds.high)  # all rounds were slow and fast alike
    assert ddim.gmacs == pytest.approx(1 - (14 * 0.0108 + 6 * 0.0178) / (20 * 0.0178))


@pytest.mark.parametrize(
    ("low", "high", "fid", "verdict"),
    [
        (0.26, 0.31, 8.3, "holds"),
        (0.25, 0.31, 8.3, "holds"),
        (0.20, 0.27, 8.3, "open"),
        (0.20, 0.24, 8.3, "contradicted"),
        (0.26, 0.31, 20.0, "contradicted"),
    ],
)
def test_a_verdict_asks_for_a_quarter_of_the_time_and_comparable_fid(low, high, fid, verdict):
    saving = found(**{"ase demo ddim 20": fid})[0]
    assert (saving.comparison.standing == "worse") == (fid == 20.0)
    assert replace(saving, seconds=Interval((low + high) / 2, low, high, "")).verdict == verdict


def test_fid_that_may_be_worse_by_more_than_a_tenth_is_not_called_comparable():
    saving = found()[1]
    assert saving.comparison.standing == "indistinguishable"
    assert saving.comparison.difference.high > 0.1 * saving.whole.fid
    assert replace(saving, seconds=Interval(0.3, 0.28, 0.32, "")).verdict == "open"


def test_fid_that_is_credibly_worse_within_a_tenth_is_comparable():
    saving = found()[0]
    slightly = Interval(0.04 * saving.whole.fid, 0.03 * saving.whole.fid, 0.05 * saving.whole.fid, "")
    saving = replace(saving, comparison=replace(saving.comparison, difference=slightly))
    assert saving.comparison.standing == "worse"
    assert replace(saving, seconds=Interval(0.3, 0.28, 0.32, "")).verdict == "holds"
    assert replace(saving, seconds=Interval(0.26, 0.24, 0.28, "")).verdict == "open"


def test_a_schedule_that_leaves_out_too_little_tests_no_claim():
    saving = found()[0]
    plan = saving.comparison.plan
    little = at_cost(plan, 0.76 * saving.whole.gmacs)
    spared = replace(saving, comparison=replace(saving.comparison, plan=replace(plan, records=little)))
    assert spared.gmacs == pytest.approx(0.24)
    slow = replace(spared, seconds=Interval(0.2, 0.19, 0.21, ""))
    assert (spared.verdict, slow.verdict) == ("not tested", "not tested")
    assert claim([slow]).startswith("Not tested, for the schedule leaves out less than 25% of the work. ddim 20: ")
    worse = found(**{"ase demo ddim 20": 20.0})[0].comparison.difference
    assert replace(spared, comparison=replace(spared.comparison, difference=worse)).verdict == "contradicted"


def test_early_exits_at_the_cost_of_an_exit_schedule_lie_between_thresholds():
    own = findings({**FIDS, **ASE})
    by_name = {plan.name: plan for plan in own.plans}
    early, whole = by_name["adadiff ddim 20 u<=0.05"], by_name["deep ddim 20"]
    ddim, dpm, _ = found()
    assert early.gmacs > ddim.plan.gmacs  # no threshold is as cheap
    assert ddim.at_adaptive is None
    assert dpm.at_adaptive is None  # no early exits with that solver
    cheaper = replace(early, records=at_cost(early, 0.5 * whole.gmacs))
    plans = tuple(cheaper if plan is early else plan for plan in own.plans)
    difference = savings(replace(own, plans=plans), "deep", timed({**FIDS, **ASE}))[0].at_adaptive
    share = (ddim.plan.gmacs / whole.gmacs - 0.5) / 0.5
    between = share * whole.fid + (1 - share) * early.fid
    assert difference.value == pytest.approx(between - ddim.plan.fid)


def test_the_claim_is_about_the_trained_schedule_with_every_solver():
    ddim, dpm, searched = found()
    dpm = replace(dpm, comparison=replace(dpm.comparison, difference=ddim.comparison.difference))
    text = claim([ddim, dpm, searched])
    assert text.startswith("Holds. ddim 20: 26% (26% to 26%) less time for 28% less work, FID +0.1")
    assert text.count("less time") == 2  # the searched one was not trained for
    slow = replace(dpm, seconds=Interval(0.1, 0.05, 0.15, ""))
    assert claim([ddim, slow]).startswith("Contradicted with dpmsolver++ 10. ddim 20: ")
    unsure = replace(dpm, seconds=Interval(0.24, 0.2, 0.3, ""))
    assert claim([ddim, unsure]).startswith("Stays open. ")


def test_an_exit_schedule_stands_against_what_costs_as_much():
    controls = findings({**FIDS, **ASE}).controls["ase demo ddim 20"]
    assert [(control.what, control.comparison.plan.name) for control in controls] == [
        ("deep with 15 evaluations", "control fewer steps ddim 15"),
        ("middle with 27 evaluations", "control middle ddim 27"),
        ("DuoDiff, 7 shallow, 13 deep", "duodiff ddim 20 k=7"),
        ("AdaDiff at u \N{LESS-THAN OR EQUAL TO} 0.05", "adadiff ddim 20 u<=0.05"),
    ]
    assert findings({**FIDS, **ASE}).controls["duodiff ddim 20 k=7"] == findings().controls["duodiff ddim 20 k=7"]


def test_the_page_shows_rows_note_and_figures():
    errors = pd.DataFrame({"depth": [5, 5, 9, 9], "timestep": [999.0, 0.0] * 2, "coefficient": 0.1})
    errors = errors.assign(before=[0.2, 0.9, 0.1, 0.5], after=[0.1, 0.6, 0.1, 0.6])
    data = report_data(exit_errors=errors, timings=evaluation({**FIDS, **ASE})["timings"])
    own = findings({**FIDS, **ASE})
    figures = draw_figures(own, data)
    assert {"exit_errors", "ase_seconds"} <= figures.keys()
    page = render_page(own, data, figures)
    assert "Exit schedules (ASE) take 25 to 30 % less time at comparable FID, with any solver: Stays open." in page
    assert page.count("10 ase/5, 10 ase/9 (sampled otherwise)") == 2  # its row here, and that of all plans
    assert "14 ase/5, 6 ase/9</td>" in page


def test_without_exit_schedules_nothing_is_said_of_them():
    without = parameters().model_copy(update={"ase": None})
    data = report_data(parameters=without)
    figures = draw_figures(findings(), data)
    assert not {"exit_errors", "ase_seconds"} & figures.keys()
    assert "Exit schedules" not in render_page(findings(), data, figures)


def test_plans_carry_their_note():
    notes = {plan.name: plan.note for plan in measured_plans(**evaluation({**FIDS, **ASE}))}
    assert {name: note for name, note in notes.items() if note} == {"ase searched ddim 20": "sampled otherwise"}


def test_a_whole_network_that_was_not_evaluated_is_named():
    said = "none is middle alone by ddim 20, against which ase demo ddim 20 stands: run the pipeline evaluation again"
    with pytest.raises(InputError, match=said):
        savings(findings({**FIDS, **ASE}), "middle", timed({**FIDS, **ASE}))


def test_plans_that_were_not_timed_are_named():
    with pytest.raises(InputError, match="timings: ase demo ddim 20 was not timed: run the pipeline evaluation again"):
        savings(findings({**FIDS, **ASE}), "deep", timed(FIDS))


def test_the_answer_prices_one_set_of_weights_and_holds_it_against_its_controls():
    page = render_answer(findings({**FIDS, **ASE}), report_data(timings=evaluation({**FIDS, **ASE})["timings"]))
    (price,) = [line for line in page.splitlines() if line.startswith("| ase demo ddim 20 | 7.16 instead of 7.16 |")]
    assert "| 1,300 (9.6%) |" in price
    (control,) = [
        line for line in page.splitlines() if line.startswith("| ase demo ddim 20 | deep with 15 evaluations")
    ]
    assert "| *+1.60 (" in control  # worse than the exit schedule


def test_a_switch_at_the_cost_of_an_exit_schedule_stands_beside_it_with_its_price():
    fids = {**FIDS, **ASE, "control duodiff dpmsolver++ 10 k=5": 11.2}
    fids.pop("duodiff dpmsolver++ 10 k=4")
    own = findings(fids)
    (control,) = (c for c in own.controls["ase demo dpmsolver++ 10"] if c.what.startswith("DuoDiff"))
    assert control.comparison.plan.name == "control duodiff dpmsolver++ 10 k=5"
    page = render_answer(own, report_data(timings=evaluation(fids)["timings"]))
    assert "| control duodiff dpmsolver++ 10 k=5 | 9.60 instead of 7.16 | 4,700 (35%) |" in page
