"""The answer in Markdown says what was measured."""

import re
from itertools import pairwise

import pytest
from report_examples import curve_table, evaluation, findings, loss_gap, networks, report_data

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.metrics.reference import Floor
from duodiff_pipeline.reporting.answer import render_answer
from duodiff_pipeline.reporting.findings import weigh
from duodiff_pipeline.reporting.measured import measured_plans


@pytest.fixture(scope="module")
def page() -> str:
    return render_answer(findings(), report_data())


def row(page: str, start: str, heading: str = "# ") -> list[str]:
    """The cells of the one table row that begins so, below the first heading that does."""
    below = page[page.index(f"\n{heading}") if heading != "# " else 0 :]
    (line,) = [line for line in below.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_table_is_whole(page):
    lines = page.splitlines()
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|"), (before, line)
    assert "nan" not in page.lower().split()


def test_claims_count_what_the_switches_came_to(page):
    said = row(page, "Exits are bimodal, and change at one switch (phase transition)")[1]
    assert said.startswith("A change point at ")
    assert re.search(r"full depth and the plateau hold \d+%.* of the evaluations, and \d+%.* change exactly once", said)
    # free up to k = 4, where the FID begins to rise by 1
    assert row(page, "A shallow start costs no quality, ddim 10")[1].startswith(
        "No switch up to k = 4 is credibly worse"
    )
    assert row(page, "DuoDiff against the order reversed, ddim 10")[1] == "Of 1 measured: better at 1 (k = 5)."
    against_deep = row(page, "DuoDiff against deep at its cost, ddim 10")[1]
    assert re.match(r"Of 9 measured: better at 5 \(k = 1 to 5\), worse at \d+ \(k = .*9\)", against_deep)


def test_a_switch_stands_in_a_row_of_its_own(page):
    own = row(page, "7")
    assert own[1] == "54%"
    assert own[3].startswith("*+5.")  # 3 ** 1.5 worse than deep with as many steps
    assert row(page, "0")[3:] == ["", "", "", ""]


def test_networks_stand_with_their_identity(page):
    stored = networks()
    assert row(page, "deep")[1] == "9 blocks, 16 wide, patch 4"
    assert row(page, "early exits")[1] == "a head and a probe for each of 9 blocks"
    assert re.search(r"`[0-9a-f]{64}`", row(page, "shallow")[-1])
    assert stored["deep"].parameters / 1e6 == pytest.approx(float(row(page, "deep")[2].split()[0]), rel=1e-2)


def test_commands_train_every_network_again_with_its_own_seed_and_threads(page):
    assert (
        "    kedro run --pipelines data_preparation\n    kedro run --nodes deep.train --params hardware.threads=1\n"
        in page
    )
    assert "    kedro run --pipelines early_exit --params hardware.threads=1\n" in page
    timings = evaluation()["timings"]
    taken = report_data(timings={**timings, "training_seconds": {**timings["training_seconds"], "deep": None}})
    assert "    kedro run --nodes deep.take\n" in render_answer(findings(), taken)


def test_suggestions_are_bold_where_they_meet_the_range_of_free_switches(page):
    assert row(page, "loss gap") == ["loss gap", "**2 (1 to 4)**"]
    assert row(page, "measured: the last switch that is free")[1] == "4"
    _, switches = loss_gap()
    apart = report_data(loss_gap_switches=[{**switches[0], "k": 1, "k_low": 0, "k_high": 2}])
    assert row(render_answer(findings(), apart), "loss gap")[1] == "1 (0 to 2)"


def test_the_search_stands_with_the_switches_on_its_front(page):
    trials = report_data().trials
    front = trials[trials["on_front"] & (trials["steps"] == 10) & (trials["solver"] == "ddim") & trials["k"].notna()]
    shown = row(page, "search, on its front")[1]
    assert shown == (", ".join(map(str, sorted(set(front["k"])))) or "none on the front")


def test_a_second_network_pays_after_what_it_cost_over_what_it_saves(page):
    price = row(page, "duodiff ddim 20 k=7", "## Price")
    saved = 7 * (0.0178 - 0.0062)
    assert price[4] == f"{4700 / saved:,.0f}"
    assert price[2] == "4,700 (35%)"


def test_the_speed_of_early_exits_stands_as_published_by_macs_and_by_the_clock(page):
    seconds = evaluation()["timings"]["sampling"]["adadiff ddim 20 u<=0.05"]
    # 0.8 of 9 blocks at 0.83 of the multiply-accumulates
    measured = f"{seconds['speed_up']:.2f} ({seconds['speed_up_low']:.2f} to {seconds['speed_up_high']:.2f})"
    cells = row(page, "adadiff ddim 20 u<=0.05", "Early exits, both ways")
    assert cells[1:] == ["7.2 of 9", "1.25", "1.20", measured]


def test_without_a_saving_it_never_pays():
    data = evaluation()
    slow = data["timings"]["sampling"]["duodiff ddim 20 k=7"]
    slow["seconds_per_image"] = 1.0
    found = weigh(measured_plans(**data), Floor((1.7, 2.4, 2.9), 599), Floor((0.0, 1.0), 599))
    assert row(render_answer(found, report_data()), "duodiff ddim 20 k=7", "## Price")[-1] == "never"


def test_without_a_middle_network_there_is_no_column_of_it():
    table = curve_table()
    page = render_answer(findings(), report_data(curve_table=table[table["role"] != "middle"]))
    assert "middle at its cost" not in page


@pytest.mark.parametrize(
    "changes",
    [
        {"networks": {**networks(), "shallow": networks()["middle"]}},
        {"curve_table": curve_table().assign(measured_with="of another run")},
    ],
)
def test_curves_of_other_networks_are_refused(changes):
    with pytest.raises(InputError, match="run the pipeline switch_curves again"):
        report_data(**changes).require_curves_of(findings().baseline.record)


def test_the_same_inputs_give_the_same_page(page):
    assert render_answer(findings(), report_data()) == page
