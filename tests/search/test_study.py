"""Studies of a made-up objective: killed, resumed, extended, and always the same trials."""

import os

import numpy as np
import pytest

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.search.space import Candidate, SearchSpace
from duodiff_pipeline.search.storage import open_storage
from duodiff_pipeline.search.study import Study, on_front, run_study
from duodiff_pipeline.search.trials import trials_table

SPACE = SearchSpace(
    solvers=("ddim", "dpmsolver++"),
    steps=(5, 10),
    backbones=("shallow", "middle", "deep"),
    candidates=(
        Candidate("exits", "exit_statistics", (620.0,)),
        Candidate("halves", "uniform", (500.0,)),
        Candidate("thirds", "uniform", (667.0, 333.0)),
    ),
    noise=NoiseSchedule(),
)
ANCHORS = 15
TRIALS = 20
DEPTH = {"shallow": 1, "middle": 2, "deep": 3}


def measure(plan) -> tuple[float, float]:
    """FID falls with steps and with depth after the middle; cost is 1 to 3 an evaluation."""
    depths = [DEPTH[name] for name in plan.schedule.assignment(plan.grid)]
    late = sum(depths[len(depths) // 2 :]) / len(depths)
    return 100 / len(depths) + 10 * (1.5 - late), float(sum(depths))


class Evaluate:
    """The made-up objective; counts, and dies at the call that it is told, before or after proposing."""

    def __init__(self, dies_at: int | None = None, proposes_first: bool = True):
        self.calls, self.dies_at, self.proposes_first = 0, dies_at, proposes_first

    def __call__(self, trial):
        if self.calls == self.dies_at and not self.proposes_first:
            raise KeyboardInterrupt
        plan = SPACE.suggest(trial).plan
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        return measure(plan)


def study(folder, n_trials=TRIALS, evaluate=None, seed=0, first=None):
    folder.mkdir(exist_ok=True)
    first = SPACE.anchors() if first is None else first
    front = Study("front", ("fid", "gmacs"), n_trials, first, SPACE.may_sample)
    return run_study(open_storage(folder, None, "key"), front, seed, evaluate or Evaluate())


def table_of(trials):
    return trials_table([("front", trials)], SPACE, lambda plan: measure(plan)[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return study(tmp_path_factory.mktemp("whole"))


def assert_same(trials, expected) -> None:
    assert [(t.number, t.params, t.values) for t in trials] == [(t.number, t.params, t.values) for t in expected]
    assert table_of(trials).equals(table_of(expected))


def test_a_study_makes_the_trials_asked_for_and_numbers_them(tmp_path):
    evaluate = Evaluate()
    trials = study(tmp_path, evaluate=evaluate)
    assert evaluate.calls == TRIALS
    assert [t.number for t in trials] == list(range(TRIALS))


def test_a_study_is_repeatable(tmp_path, whole):
    assert_same(study(tmp_path / "again"), whole)


def test_another_seed_proposes_something_else_after_the_anchors(tmp_path, whole):
    other = study(tmp_path, seed=1)
    assert [t.params for t in other[:ANCHORS]] == [t.params for t in whole[:ANCHORS]]
    assert [t.params for t in other[ANCHORS:]] != [t.params for t in whole[ANCHORS:]]


def test_anchors_come_first(whole):
    assert [t.params for t in whole[:ANCHORS]] == SPACE.anchors()
    table = table_of(whole)
    alone, suggested = [["deep"], ["middle"], ["shallow"]] * 4, [["shallow", "deep"]]
    assert table["serves"][:ANCHORS].tolist() == alone + suggested + [list(SPACE.backbones)] * 2


@pytest.mark.parametrize("first", [[], SPACE.anchors()], ids=["drawn at random at first", "after anchors"])
def test_what_is_walked_through_is_not_sampled(tmp_path, first):
    sampled = table_of(study(tmp_path, len(first) + 25, first=first))[len(first) :]
    assert set(sampled["edges_by"]) <= {"switch", "exit_statistics", "uniform"}
    assert (sampled.loc[sampled["edges_by"] == "switch", "serves"].map(len) > 2).all()
    assert sampled["edges_by"].nunique() > 1


def test_every_trial_draws_anew(tmp_path):
    random_trials = study(tmp_path, 8, first=[])  # with no anchors all are drawn before anything is learnt
    assert len({tuple(t.params.items()) for t in random_trials}) > 4


@pytest.mark.parametrize("proposes_first", [False, True], ids=["before proposing", "while measuring"])
@pytest.mark.parametrize("killed_at", [0, 14, 15, 18])
def test_a_killed_study_goes_on_to_the_same_trials(tmp_path, whole, killed_at, proposes_first):
    killed, resumed = Evaluate(killed_at, proposes_first), Evaluate()
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path, evaluate=killed)
    trials = study(tmp_path, evaluate=resumed)
    assert (killed.calls, resumed.calls) == (killed_at, TRIALS - killed_at)
    assert_same(trials, whole)


class KilledAfter:
    """A trial during which the process dies: after so many proposals."""

    def __init__(self, trial, proposals: int):
        self.trial, self.left, self.number = trial, proposals, trial.number

    def __getattr__(self, name):
        def suggest(*arguments):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return getattr(self.trial, name)(*arguments)

        return suggest


@pytest.mark.parametrize("anchors", [[], SPACE.anchors()], ids=["drawn at random at first", "after anchors"])
def test_a_study_killed_between_any_two_proposals_goes_on_to_the_same_trials(tmp_path, anchors):
    """Every trial is killed after its first proposal, and again one later, until nothing is left to propose."""

    def run(folder, evaluate):
        return study(folder, evaluate=evaluate, first=anchors)

    expected = run(tmp_path / "whole", Evaluate())
    attempts: dict[int, int] = {}

    def evaluate(trial):
        attempts[trial.number] = attempts.get(trial.number, 0) + 1
        return measure(SPACE.suggest(KilledAfter(trial, attempts[trial.number])).plan)

    kills = 0
    while True:
        try:
            trials = run(tmp_path / "killed", evaluate)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills == sum(len(trial.params) - 1 for trial in expected)
    assert_same(trials, expected)


def test_a_study_killed_again_and_again_loses_and_doubles_nothing(tmp_path, whole):
    calls = 0
    for dies_at in (2, 0, 4, 3, 0, 1):
        evaluate = Evaluate(dies_at)
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path, evaluate=evaluate)
        calls += evaluate.calls
    last = Evaluate()
    assert_same(study(tmp_path, evaluate=last), whole)
    assert calls + last.calls == TRIALS


@pytest.mark.parametrize(("first", "more"), [(6, 9), (9, 15), (15, TRIALS)])
def test_an_extended_study_runs_the_new_trials_alone_and_is_what_a_longer_one_would_be(tmp_path, whole, first, more):
    assert_same(study(tmp_path, first), whole[:first])
    evaluate = Evaluate()
    assert_same(study(tmp_path, more, evaluate), whole[:more])
    assert evaluate.calls == more - first


@pytest.mark.parametrize("cut", [1, 30, 2000])
def test_what_was_half_written_into_the_journal_is_taken_back(tmp_path, whole, cut):
    study(tmp_path)
    journal = tmp_path / "journal.log"
    os.truncate(journal, journal.stat().st_size - cut)
    assert_same(study(tmp_path), whole)
    assert_same(study(tmp_path), whole)


@pytest.mark.parametrize("line", [b"garbage\n", b"{}\n", b"[]\n"])
def test_a_damaged_journal_is_named(tmp_path, line):
    study(tmp_path)
    journal = tmp_path / "journal.log"
    journal.write_bytes(line + journal.read_bytes())
    with pytest.raises(InputError, match=r"journal.log is damaged: delete it"):
        study(tmp_path)


def test_a_study_that_is_complete_runs_nothing(tmp_path, whole):
    study(tmp_path, 9)
    evaluate = Evaluate()
    assert_same(study(tmp_path, 9, evaluate), whole[:9])
    assert_same(study(tmp_path, 5, evaluate), whole[:5])
    assert evaluate.calls == 0


@pytest.mark.parametrize("measured", [(float("nan"), 1.0), (1.0, float("nan"))])
def test_a_measurement_that_is_no_number_ends_the_search_instead_of_repeating_it_for_ever(tmp_path, measured):
    calls = []

    def evaluate(trial):
        assert len(calls) < 20, "the same trial again and again"
        calls.append(trial.number)
        return measured if trial.number >= 3 else measure(SPACE.suggest(trial).plan)

    with pytest.raises(InputError, match="trial 3"):
        study(tmp_path, evaluate=evaluate)
    assert calls == [0, 1, 2, 3]


def beaten_by_any(rows, row) -> bool:
    return any(all(o <= r for o, r in zip(other, row, strict=True)) and tuple(other) != tuple(row) for other in rows)


def test_front_equals_brute_force():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 40):
        for levels in (2, 4, 1000):  # few levels make ties
            objectives = rng.integers(0, levels, (n, 2)).astype(float)
            expected = [not beaten_by_any(objectives, row) for row in objectives]
            assert on_front(objectives).tolist() == expected


def test_front_keeps_equal_rows_and_drops_a_row_that_is_beaten_in_one_objective():
    objectives = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, 6.0], [2.0, 5.0], [0.5, 9.0], [3.0, 1.0]])
    assert on_front(objectives).tolist() == [True, True, False, False, True, True]
