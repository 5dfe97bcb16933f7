import html
import re

import pytest
import torch
from report_examples import COST, MORE, MORE_FLOORS, PLANS, evaluation, findings, parameters, report_data

from duodiff_pipeline.analysis.exit_statistics import exit_summary
from duodiff_pipeline.reporting.findings import Findings, weigh
from duodiff_pipeline.reporting.measured import measured_plans
from duodiff_pipeline.reporting.page import ReportData, draw_figures, png_uri, render_page
from duodiff_pipeline.reporting.seconds import timed_batches
from duodiff_pipeline.reporting.style import ROLES
from duodiff_pipeline.reporting.wording import record_text

QUESTIONS = ("Where to switch", "Between what", "What it buys", "At what price", "How sure")


def _page(found: Findings, data: ReportData) -> str:
    return render_page(found, data, draw_figures(found, data))


@pytest.fixture(scope="module")
def page():
    return _page(findings(), report_data())


def test_it_loads_nothing(page):
    loaded = re.findall(r"""(?:src|href|data|action|poster)\s*=\s*["']?([^"'\s>]+)""", page)
    assert loaded
    assert all(target.startswith(("data:", "#")) for target in loaded)
    assert not re.search(r"<(?:script|link|iframe|object|embed)\b|@import|url\((?!#)", page)


def test_the_same_inputs_give_the_same_page(page):
    assert _page(findings(), report_data()) == page


def test_the_first_screen_answers_in_order(page):
    at = [page.index(f"<h2>{question}</h2>") for question in QUESTIONS]
    assert at == sorted(at)
    assert at[-1] < page.index("<svg")
    first = page[: page.index("<svg")]
    for part in (
        "Switch after 7 of 20 evaluations between shallow and deep: 23% less work",
        "between timesteps 699 and 649",
        "3 blocks, 128 wide",
        "−23% GMACs, FID +0.10",
        "1.29 times as fast",
        "+0.61 M parameters (34%)",
        "9.60 MB at 4 bytes a parameter",
        "18,300 GMACs",
        "5 blocks of 599 images",
        "3.51 times that",
        "97.7% of held-out images",
    ):
        assert part in first


def test_all_figures_grids_and_tables_are_there(page):
    assert page.count("<svg") == 8
    assert page.count("data:image/png;base64,") == 1 + len(PLANS)  # and the real ones
    text = re.sub(r"<[^>]+>", "", page)
    for name in PLANS:
        assert text.count(name.replace("<", "&lt;")) >= 2
    assert "no switch suggested: exit depth takes no step" in text
    assert "commit c0ffee" in text
    assert "with changes that are not committed" in text
    assert text.count("learning_rate") == 3
    assert report_data().train.sha256 in text


def test_the_strip_shows_who_serves_every_evaluation(page):
    spans = re.findall(r'<span style="background:(#\w+)">', page)
    assert spans == [ROLES["shallow"].colour] * 7 + [ROLES["deep"].colour] * 13
    assert 'aria-label="7 shallow, 13 deep"' in page


def test_a_page_of_three_stages():
    every = {name: plan[3] for name, plan in (PLANS | MORE).items()}
    found = findings(every)
    data = report_data(timings=evaluation(every)["timings"])
    figures = draw_figures(found, data)
    page = render_page(found, data, figures)
    assert 'aria-label="5 shallow, 7 middle, 8 deep"' in page
    assert '<td class="n">5, 12</td><td class="n">774.0, 424.0</td>' in page
    for label in ("ddim 20 k=5,12, shallow to middle", "ddim 20 k=5,12, middle to deep"):
        assert f"searched, {label}" in figures["exits"]
    assert "DuoDiff, more than 2 stages" in figures["cost"]
    assert "667, −1.1; 333, 1.1" in figures["edges"]
    # the figure of the switch shows what the first and the last network serve, and nothing else
    fids = {name: plan[3] for name, plan in PLANS.items()}
    with_others = draw_figures(findings(fids | dict.fromkeys(MORE, 60.0)), data)
    without = draw_figures(findings(fids), report_data(trials=data.trials[data.trials["serves"].map(len) < 3]))
    assert with_others["switch"] == without["switch"]


def test_trials_of_the_front_stand_beside_their_fid_on_fresh_seeds(page):
    table = html.unescape(page[page.index("<h2>The front of the") : page.index("<h2>To repeat it")])
    trials, plans = report_data().trials, findings().plans
    assert f"Trials by study: 2 within 0.4 and {len(trials) - 2} front." in table
    assert "Given up: 1 that fell behind, 1 beyond their budget." in table
    by_runs = {
        f"{plan.solver.label} {plan.solver.steps}, {plan.runs}": plan for plan in plans if not plan.exit_threshold
    }
    front = trials[trials["on_front"]]
    rows = re.findall(r"<tr><td.*?</tr>", table, flags=re.DOTALL)
    assert len(rows) == len(front)
    evaluated = [plan for plan in front["plan"] if plan in by_runs]
    assert 0 < len(evaluated) < len(front)
    for plan in front["plan"]:
        (row,) = (row for row in rows if f"<td>{plan}</td>" in row)
        fresh = record_text(by_runs[plan].record) if plan in by_runs else ""
        assert row.replace("\N{NO-BREAK SPACE}", " ").endswith(f'<td class="i">{fresh}</td></tr>')


def test_the_strip_rests_on_edges_not_on_display_text():
    inputs = evaluation()
    for described in inputs["evaluated"]:
        described["runs"] = "text for people"
    found = weigh(measured_plans(**inputs), findings().floor, findings().kid_floor)
    assert 'aria-label="7 shallow, 13 deep"' in _page(found, report_data())


def test_exits_are_summarised_by_threshold(page):
    data = report_data()
    table = page[page.index("mean exit depth</th>") : page.index("what the exits say")]
    for row in exit_summary(data.exit_table, 9).to_dict("records"):
        cells = (f"u ≤ {row['threshold']:g}", f"{row['mean_depth']:.1f} of 9", f"{row['changes_mean']:.1f}")
        assert all(f">{cell}</td>" in table for cell in cells)
    assert "of images change exactly once" in table


def test_a_threshold_at_which_nothing_exits_early_has_no_plateau():
    data = report_data()
    last = data.exit_table["threshold"] == data.exit_table["threshold"].max()
    table = data.exit_table.assign(exit_depth=data.exit_table["exit_depth"].where(~last, 9))
    assert '9.0 of 9</td><td class="n">100%</td><td class="n">none</td>' in _page(
        findings(), report_data(exit_table=table)
    )


@pytest.mark.parametrize(
    ("environment", "runtime_params", "command"),
    [
        ("base", {}, "kedro run"),
        ("test", {"a.b": 1, "c.d": 2}, "kedro run --env test --params a.b=1,c.d=2"),
        ("base", {"a": None, "b": True, "c": "ddim"}, "kedro run --params a=null,b=true,c=ddim"),
        ("base", {"a.b": [0.1]}, "kedro run --params 'a.b=[0.1]'"),
    ],
)
def test_the_command_repeats_the_run(environment, runtime_params, command):
    page = _page(findings(), report_data(environment=environment, runtime_params=runtime_params))
    assert f"<pre>{command}</pre>" in html.unescape(page)


def test_the_networks_of_the_trials_are_those_of_the_search():
    """Where the search tried networks alone and nothing else, their names are known all the same."""
    trials = report_data().trials
    alone = trials[trials["k"].isna()].reset_index(drop=True)
    alone["serves"] = alone["serves"].map(lambda serves: ["middle" if name == "shallow" else name for name in serves])
    settings = parameters(switch_search={"backbones": ["middle", "deep"]})
    figures = draw_figures(findings(), report_data(parameters=settings, trials=alone))
    assert "middle alone" in figures["switch"]


def test_a_run_without_switches_git_or_comparable_trials():
    """Nothing was found and nothing compares: the page says so and still stands."""
    fids = {"deep ddim 20": 8.2, "shallow ddim 20": 8.3}
    nothing = dict(message="no switch suggested: half of the images or more stay shallow throughout", found=False)
    nothing |= dict.fromkeys(("k", "k_low", "k_high", "timestep_edge"))
    settings = parameters(switch_search={"images": 100})
    trials = report_data().trials
    page = _page(
        findings(fids),
        report_data(
            parameters=settings,
            change_points=[{"threshold": t, **nothing} for t in settings.exit_statistics.thresholds],
            trials=trials[trials["k"].isna()].reset_index(drop=True),
            git={"commit": "none", "dirty": "none"},
            environment="fashion_mnist",
            training_curves={"deep": {"losses": [], "training_gmacs": 1.0}},
        ),
    )
    for part in (
        "Shallow all the way is enough",
        "Exit statistics suggest no switch at any threshold",
        "measured at another number of images, so they are not set beside",
        "no git repository",
        "kedro run --env fashion_mnist",
        "The search found no schedule",
    ):
        assert part in page


def test_what_comes_from_outside_is_escaped(page):
    evil = report_data(git={"commit": "<script>alert(1)</script>", "dirty": False})
    assert "<script>" not in _page(findings(), evil)


def test_colour_images_make_colour_grids():
    grey, colour = torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    colour[:, 0] = 255
    assert png_uri(grey) != png_uri(colour)
    assert png_uri(colour) == png_uri(colour)


def test_kid_and_copies_stand_beside_fid_for_every_plan():
    inputs = evaluation()
    record = next(r for r in inputs["records"] if (r["denoiser"], r["name"]) == ("deep ddim 20", "memorisation_pixels"))
    record.update(value=0.779, interval_low=0.748, interval_high=0.809)
    found = weigh(measured_plans(**inputs), findings().floor, findings().kid_floor, MORE_FLOORS)
    page = _page(found, report_data()).replace("\N{NO-BREAK SPACE}", " ")
    section = page[page.index("<h2>KID, and copies") : page.index("<h2>The front")]
    assert "66.7% lie nearer to a training image" in section
    assert '77.9% (74.8% to 80.9%)</td><td class="nowrap">more than by chance</td>' in section
    assert section.count("no sign of it") == len(PLANS) - 1
    assert "18.6 (17.1 to 20.1)</td>" in section
    assert "6.20 (5.70 to 6.70)</td>" in section  # FID at infinitely many images
    assert "81.8% (81.3% to 82.3%)</td>" in section  # precision
    assert "1.33 ± 0.60</td>" in section
    assert "0.0 ± 1.0</td>" in section
    assert "Copies: 1 of 12 plans" in page[: page.index("<svg")]


def test_metrics_that_were_not_asked_for_leave_no_column():
    inputs = evaluation()
    inputs["records"] = [r for r in inputs["records"] if r["name"] not in ("fid_infinity", "precision", "recall")]
    page = _page(weigh(measured_plans(**inputs), findings().floor, findings().kid_floor), report_data())
    assert "recall" not in page.split("<details>")[0]
    assert "FID∞" not in page


@pytest.mark.parametrize(
    ("reference", "n", "against", "floor"),
    [
        ("held_out", 599, "against 599 held-out ones", "of real training images"),
        ("train", 1198, "against 1,198 training ones", "of real held-out images"),
        ("published", None, "against published statistics", "of real held-out images"),
    ],
)
def test_what_the_images_were_held_against_is_said(reference, n, against, floor):
    inputs = evaluation()
    for record in inputs["records"]:
        record.update(reference=reference, n_reference=n)
    unknown = {"name": "inception-2015-12-05.pt", "sha256": "a" * 64, "learns": None, "held_out_accuracy": None}
    found = weigh(measured_plans(**inputs), findings().floor, findings().kid_floor)
    page = _page(found, report_data(extractor=unknown))
    assert against in page
    assert f"No generator can be expected below the floor, the FID {floor}" in page
    assert "inception-2015-12-05.pt, a network from a file, not trained on these images" in page


def test_seconds_stand_beside_those_that_gmacs_predict(page):
    """Every batch with its own seconds a GMAC, taken from the baseline, and why they differ."""
    table = page[page.index("measured over predicted (smallest to largest)") :]
    batches = timed_batches(findings(), evaluation()["timings"]["by_batch"])
    assert [batch.images for batch in batches] == [1, 16, 64]
    for batch in batches:
        by_name = {timed.plan.name: timed for timed in batch.plans}
        assert not [name for name in by_name if name.startswith("control")]
        deep, shallow = by_name["deep ddim 20"], by_name["shallow ddim 20"]
        assert deep.ratio == pytest.approx(1)
        assert shallow.predicted == pytest.approx(deep.measured * COST["shallow"] / COST["deep"])
        assert (shallow.low, shallow.high) == pytest.approx((0.9 * shallow.measured, 1.2 * shallow.measured))
        early = by_name["adadiff ddim 20 u<=0.05"]
        assert early.predicted == pytest.approx(deep.measured * 1.1 * early.plan.gmacs / deep.plan.gmacs)
        least, middle, most = batch.ratios
        assert f"{middle:.2f} ({least:.2f} to {most:.2f})" in table
        assert least <= middle <= most
    assert (
        "the rest of the time, of runs by deep and by shallow 60% and 80% at a batch of 1, 40% and 50% at a batch of "
        "16 and 30% and 32% at a batch of 64. A call costs the same for one image as for many, so small batches pay "
        "most. For that shallow ddim 20 takes 2.00, 1.20 and 1.03 times the seconds that GMACs predict. Its products "
        "take 1.10, 1.10 and 1.10 times the seconds a multiply-accumulate of those of deep ddim 20. Both make 2.20, "
        "1.32 and 1.13 times; timed by itself, it takes "
    ) in " ".join(page.split())
