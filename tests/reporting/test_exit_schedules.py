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
    return savings(findings({**FIDS, **ASE, **fids}), "deep")


def test_seconds_are_paired_with_the_whole_network_at_the_same_solver_and_steps():
    ddim, dpm, searched = found()
    assert [saving.whole.name for saving in (ddim, dpm, searched)] == [
        "deep ddim 20",
        "deep dpmsolver++ 10",
        "deep ddim 20",
    ]
    spent = {
        name: np.array(one["seconds_blocks"])
        for name, one in evaluation({**FIDS, **ASE})["timings"]["sampling"].items()
    }
    shares = 1 - spent["ase demo ddim 20"] / spent["deep ddim 20"]
    assert ddim.seconds.value == pytest.approx(shares.mean())
    assert ddim.seconds.low == pytest.approx(ddim.seconds.high)  # all blocks were slow and fast alike
    assert ddim.gmacs == pytest.approx(1 - (14 * 0.0108 + 6 * 0.0178) / (20 * 0.0178))


@pytest.mark.parametrize(
    ("low", "high", "worse", "verdict"),
    [
        (0.26, 0.31, False, "holds"),
        (0.25, 0.31, False, "holds"),
        (0.20, 0.27, False, "open"),
        (0.20, 0.24, False, "contradicted"),
        (0.26, 0.31, True, "contradicted"),
    ],
)
def test_a_verdict_asks_for_a_quarter_of_the_time_and_no_credibly_worse_fid(low, high, worse, verdict):
    saving = found(**({"ase demo ddim 20": 20.0} if worse else {}))[0]
    assert replace(saving, seconds=Interval((low + high) / 2, low, high, "")).verdict == verdict


def test_the_claim_is_about_the_trained_schedule_with_every_solver():
    ddim, dpm, searched = found()
    text = claim([ddim, dpm, searched])
    assert text.startswith("Holds. ddim 20: 27% (27% to 27%) less time for 28% less work, FID +0.1")
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
    data = report_data(exit_errors=errors)
    own = findings({**FIDS, **ASE})
    figures = draw_figures(own, data)
    assert {"exit_errors", "ase_seconds"} <= figures.keys()
    page = render_page(own, data, figures)
    assert "Exit schedules (ASE) take 25 to 30 % less time at comparable FID, with any solver: Holds." in page
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
        savings(findings({**FIDS, **ASE}), "middle")


def test_the_answer_prices_one_set_of_weights_and_holds_it_against_its_controls():
    page = render_answer(findings({**FIDS, **ASE}), report_data())
    (price,) = [line for line in page.splitlines() if line.startswith("| ase demo ddim 20 | 7.16 instead of 7.16 |")]
    assert "| 1,300 (9.6%) |" in price
    (control,) = [
        line for line in page.splitlines() if line.startswith("| ase demo ddim 20 | deep with 15 evaluations")
    ]
    assert "| *+1.60 (" in control  # worse than the exit schedule
