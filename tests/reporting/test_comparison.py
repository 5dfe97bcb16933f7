"""Past runs side by side: what is set against what, what is refused, and the page that shows it."""

import html
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from curve_examples import curves_table, suggests
from report_examples import PLANS, evaluation, exit_table, parameters

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.metrics.intervals import paired_difference
from duodiff_pipeline.metrics.records import MetricRecord
from duodiff_pipeline.past_runs import PastRun
from duodiff_pipeline.reporting.comparison import compared, differing_parameters, metrics, refusals, shortened
from duodiff_pipeline.reporting.comparison_page import (
    claims_file,
    render_claims,
    render_comparison,
    write_comparison,
)
from duodiff_pipeline.reporting.training_seeds_section import SeedsSection, seeds_section
from duodiff_pipeline.tracking import flatten

DEEP, SHALLOW, DUODIFF = "deep ddim 20", "shallow ddim 20", "duodiff ddim 20 k=7"


def past_run(number: int, fids: dict[str, float] | None = None, n: int = 599, **changes: Any) -> PastRun:
    """A run as MLflow gives it back, with FID alone; fids as in `evaluation`."""
    measured = evaluation(fids, n_generated=n)
    of_fid = [record for record in measured["records"] if record["name"] == "fid"]
    settings = parameters()
    fields: dict[str, Any] = dict(
        id=f"{number}" * 32,
        name=f"run {number}",
        started=datetime(2026, 1, number, 12, 0, tzinfo=UTC),
        params={key: str(value) for key, value in flatten(settings.model_dump()).items()},
        tags={
            "git_commit": "c0ffee" * 6 + "abcd",
            "git_dirty": "False",
            "environment": "base",
            "data_sha256": "d" * 64,
        },
        records=tuple(map(MetricRecord.model_validate, of_fid)),
        recommendation={"verdict": "switch", "plan": DUODIFF},
        blocks=measured["seed_blocks"],
        exits=exit_table(settings),
        curves=None,
        suggested=None,
        losses={"deep": [(500, 0.3), (1000, 0.25)], "early_exits": []},
    )
    return PastRun(**(fields | changes))


def with_records(run: PastRun, **changes: Any) -> PastRun:
    return PastRun(**{**vars(run), "records": tuple(r.model_copy(update=changes) for r in run.records)})


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


FIRST = past_run(1)
# the noise of a plan goes by its place: another one, so that differences have an interval
BETTER = past_run(2, {SHALLOW: 27.0, DEEP: 6.2, DUODIFF: 8.3})


def test_only_parameters_that_differ_are_told():
    changed = {**FIRST.params, "seed": "1", "backbones.tiny.depth": "1"}
    assert differing_parameters([FIRST, BETTER]) == {}
    assert differing_parameters([FIRST, past_run(2, params=changed), BETTER]) == {
        "backbones.tiny.depth": [None, "1", None],
        "seed": ["0", "1", "0"],
    }


def test_differences_are_paired_over_the_same_seeds():
    first, second = compared([FIRST, BETTER], "fid")[DEEP]
    assert (first.difference, first.standing, first.refusal) == (None, "", "")
    blocks = [run.blocks[run.blocks["plan"] == DEEP]["fid"].to_list() for run in (BETTER, FIRST)]
    assert second.difference == paired_difference(*blocks)
    assert second.standing == "better"
    assert compared([BETTER, FIRST], "fid")[DEEP][1].standing == "worse"
    assert compared([FIRST, BETTER], "fid")[SHALLOW][1].standing == "indistinguishable"


def test_the_order_of_blocks_in_the_table_does_not_matter():
    shuffled = PastRun(**{**vars(BETTER), "blocks": BETTER.blocks.sample(frac=1, random_state=0)})
    assert (
        compared([FIRST, shuffled], "fid")[DEEP][1].difference == compared([FIRST, BETTER], "fid")[DEEP][1].difference
    )


@pytest.mark.parametrize("why", ["other seeds", "no blocks", "no column of the metric"])
def test_what_cannot_be_paired_is_compared_unpaired(why):
    other = {
        "other seeds": with_records(BETTER, seeds=(1, 2, 3, 4, 5)),
        "no blocks": PastRun(**{**vars(BETTER), "blocks": None}),
        "no column of the metric": PastRun(**{**vars(BETTER), "blocks": BETTER.blocks.drop(columns="fid")}),
    }[why]
    difference = compared([FIRST, other], "fid")[DEEP][1].difference
    assert difference.method == "Welch's t, 95%, unpaired, 5 and 5 seed blocks"
    assert difference.value == pytest.approx(6.2 - 8.2)
    paired = compared([FIRST, BETTER], "fid")[DEEP][1].difference
    assert difference.high - difference.low > paired.high - paired.low


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_generated": 300}, "n_generated is 300 and 599"),
        ({"n_reference": 300}, "n_reference is 300 and 599"),
        ({"extractor_sha256": "e" * 64}, "extractor_sha256 is eeeeeeee… and aaaaaaaa…"),
        ({"reference_sha256": "e" * 64}, "reference_sha256 is eeeeeeee… and bbbbbbbb…"),
    ],
)
def test_what_does_not_compare_is_refused_with_the_reason(changes, reason):
    runs = [FIRST, with_records(BETTER, **changes)]
    one = compared(runs, "fid")[DEEP][1]
    assert (one.difference, one.standing, one.refusal) == (None, "", f"does not compare: {reason}")
    assert one.record.value == pytest.approx(6.2)
    assert refusals(runs, "fid") == {1: reason}
    page = render_comparison(runs)
    said = text_of(page)
    assert f"run 2: FID does not compare with the first run's, since {reason}." in said
    assert f"Left out: run 2, since {reason}." in said
    assert said.count(f"does not compare: {reason}") == 3
    assert not re.search(r"\b(paired|unpaired): ", said)


def test_a_plan_that_the_first_run_lacks_has_no_difference():
    one = compared([BETTER, FIRST], "fid")["adadiff ddim 20 u<=0.05"]
    assert one[0].record is None
    assert one[1].refusal == "the first run has no such plan"


def test_every_metric_is_taken_fid_first_and_only_known_ones_are_better_or_worse():
    def with_more(run: PastRun) -> PastRun:
        more = [r.model_copy(update={"name": name}) for name in ("copies", "kid") for r in run.records]
        return PastRun(**{**vars(run), "records": (*more, *run.records), "blocks": None})

    runs = [with_more(FIRST), with_more(BETTER)]
    assert metrics(runs) == ["fid", "copies", "kid"]
    standings = {metric: compared(runs, metric)[DEEP][1].standing for metric in metrics(runs)}
    assert standings == {"fid": "better", "copies": "lower", "kid": "better"}
    assert refusals([with_more(FIRST), BETTER], "kid") == {1: "there is no kid in this run"}
    page = render_comparison(runs)
    assert page.index("<h2>FID</h2>") < page.index("<h2>Copies</h2>") < page.index("<h2>KID</h2>")


def test_the_metrics_of_an_evaluation_all_have_a_table_with_paired_differences():
    def whole(number: int) -> PastRun:
        return past_run(number, records=tuple(map(MetricRecord.model_validate, evaluation()["records"])))

    page = render_comparison([whole(1), whole(2)])
    titles = ["FID", "KID", "FID infinity", "Precision", "Recall", "Memorisation features", "Memorisation pixels"]
    at = [page.index(f"<h2>{title}</h2>") for title in titles]
    assert at == sorted(at)
    assert text_of(page).count("the same, in every block") == 5 * len(PLANS)
    assert text_of(page).count("no difference: which images were held out moves both") == 2 * len(PLANS)


def test_shortened_leaves_all_but_sha256s():
    assert shortened(f"n is 599 and {'0' * 64}") == "n is 599 and 00000000…"


# the page


def test_the_page_loads_nothing_and_is_the_same_again():
    runs = [FIRST, BETTER, past_run(3)]
    page = render_comparison(runs)
    assert page == render_comparison(runs)
    loaded = re.findall(r"""(?:src|href|data|action|poster)\s*=\s*["']?([^"'\s>]+)""", page)
    assert all(target.startswith("#") for target in loaded)
    assert not re.search(r"<(?:script|link|iframe|object|embed)\b|@import|url\((?!#)", page)
    assert page.count("<svg") == 3


def test_the_page_tells_runs_parameters_and_differences():
    changed = past_run(2, {SHALLOW: 27.0, DEEP: 6.2}, params={**FIRST.params, "seed": "<7>"}, name="run 1")
    said = text_of(render_comparison([FIRST, changed]))
    for part in (
        "2 runs, 1 parameter differs: seed",
        "run 1 (11111111)",
        "run 1 (22222222)",
        "2026-01-02 12:00 UTC",
        "seed 0 <7>",
        "−2.0",
        "paired: better",
        f"Plans that one run alone evaluated: {len(PLANS) - 2}",
    ):
        assert part in said
    assert "Over training seeds" not in said  # of two trainings


def test_identical_runs_are_called_the_same():
    said = text_of(render_comparison([FIRST, past_run(2)]))
    assert "2 runs, the same parameters" in said
    assert said.count("the same, in every block") == len(PLANS)


def test_figures_leave_out_runs_whose_timesteps_or_losses_mean_something_else():
    other_noise = past_run(2, params={**FIRST.params, "noise.kind": "linear"})
    other_loss = past_run(3, params={**FIRST.params, "training.predicts": "noise"}, exits=None)
    said = text_of(render_comparison([FIRST, other_noise, other_loss]))
    exits, losses = said.split("Exit depth")[-1].split("Training loss")
    assert "Left out: run 2, since noise.kind differ from the first run's." in exits
    assert "Left out: run 3, since it kept no exit table." in exits
    assert "Left out: run 2, since noise.kind" in losses
    assert "Left out: run 3, since training.predicts" in losses


def test_more_runs_than_colours_and_runs_without_curves_still_make_a_page():
    bare = [past_run(number, exits=None, losses={}, blocks=None) for number in range(1, 10)]
    page = render_comparison(bare)
    assert page.count("<svg") == 1
    assert len(set(re.findall(r'class="dot" style="background:(#\w+)"', page))) == 9


def test_code_that_differs_is_said():
    other = past_run(2, tags={**FIRST.tags, "git_commit": "a" * 40, "git_dirty": "True"})
    said = text_of(render_comparison([FIRST, other]))
    assert "made by different code" in said
    assert "aaaaaaaa, with changes" in said


def test_one_run_is_no_comparison(tmp_path: Path):
    with pytest.raises(InputError, match=r"two runs or more: only run 1 \(11111111\) is named"):
        write_comparison(tmp_path, [FIRST])
    assert list(tmp_path.iterdir()) == []


def test_the_same_runs_make_the_same_file_and_others_another(tmp_path: Path):
    path = write_comparison(tmp_path, [FIRST, BETTER])
    assert write_comparison(tmp_path, [FIRST, BETTER]) == path
    assert write_comparison(tmp_path, [BETTER, FIRST]) != path
    assert path.read_text() == render_comparison([FIRST, BETTER])


# over training seeds


def trained(seed: int, **changes: Any) -> PastRun:
    """A run that differs from others in its training seed, and in what that moves."""
    params = {**FIRST.params, "seed": str(seed)}
    fields = {"params": params, "curves": curves_table(duodiff=seed / 100), "suggested": suggests(2), **changes}
    return past_run(seed + 1, **fields)


TRAINED = [trained(seed) for seed in range(3)]


def section(runs: list[PastRun]) -> SeedsSection | None:
    return seeds_section(runs, [run.name for run in runs])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("comparisons"), TRAINED)


def test_runs_that_differ_in_their_training_seed_show_what_holds_over_them(page: Path):
    said = text_of(page.read_text()).split("Over training seeds")[1]
    for part in (
        "Of 3 trainings, with the seeds 0, 1 and 2; each was measured in 5 seed blocks of 599 generated images.",
        "ddim, 4 steps claim seed 0 seed 1 seed 2 over trainings the claim",
        "shallow worse than deep as many steps",
        "DuoDiff better than deep at its cost mean of 3 of 3 switches −0.600 (−0.620 to −0.580) better",
        "−0.590 (−0.615 to −0.565) better holds",
        "The loss gap suggests k = 2, 2 and 2 with the seeds 0, 1 and 2.",
    ):
        assert part in said


def test_the_claims_stand_beside_the_page_in_markdown(page: Path):
    assert sorted(page.parent.iterdir()) == sorted([page, claims_file(page)])
    written = claims_file(page).read_text()
    assert written == render_claims(TRAINED)
    assert "&" not in written
    lines = written.splitlines()
    assert "| run 2 | 22222222 | 1 | 2026-01-02 12:00 UTC | base | c0ffeec0 | dddddddd |" in lines
    assert "## ddim, 4 steps" in lines
    head = lines.index("| claim | at | seed 0 | seed 1 | seed 2 | over trainings | the claim |")
    rows = lines[head : lines.index("", head)]
    assert len(rows) == 2 + 8
    assert {row.count("|") for row in rows} == {8}
    mean = next(row for row in rows if row.startswith("| DuoDiff better than deep at its cost | mean of 3 of 3 "))
    assert mean.endswith("| −0.590 (−0.615 to −0.565), better | holds |")


def test_runs_that_bear_no_claims_say_why_and_leave_no_file(page: Path, tmp_path: Path):
    runs = [*TRAINED[:2], trained(2, curves=None, suggested=None)]
    path = write_comparison(tmp_path, runs)
    said = text_of(path.read_text()).split("Over training seeds")[1]
    assert "No claims, since claims over trainings need at least 3 training seeds, not 2." in said
    assert "Left out: run 3, since it kept no curves of its switches." in said
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([*TRAINED, trained(2, name="again")], "trainings of the same seed are the same training"),
        ([*TRAINED[:2], with_records(TRAINED[2], n_generated=300)], "the runs generated 300 and 599 images a block"),
        ([*TRAINED[:2], with_records(TRAINED[2], extractor_sha256="f" * 64)], "the runs have not the same extractor"),
        ([*TRAINED[:2], with_records(TRAINED[2], reference_sha256="f" * 64)], "the runs have not the same extractor"),
    ],
)
def test_claims_are_of_different_trainings_measured_alike(runs: list[PastRun], reason: str):
    found = section(runs)
    assert found.refusal.startswith(reason)
    assert render_claims(runs) is None


@pytest.mark.parametrize(
    "runs",
    [
        TRAINED[:2],
        [*TRAINED, trained(3, params={**FIRST.params, "seed": "3", "training.weight_decay": "0.5"})],
        [past_run(number) for number in (1, 2, 3)],
    ],
    ids=["two runs", "another parameter", "the same parameters"],
)
def test_other_runs_have_no_such_section(runs: list[PastRun]):
    assert section(runs) is None


def test_claims_over_runs_of_different_code_say_so():
    changed = trained(3, tags={**FIRST.tags, "git_commit": "a" * 40})
    assert "\n\nThe runs were made by different code" in render_claims([*TRAINED, changed])
