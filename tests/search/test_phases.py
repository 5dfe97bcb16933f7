"""Both phases of a search, with a made-up objective: what is given up or never sampled, how the front begins."""

import itertools

import pytest

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.search.phases import FRONT, Measure, search
from duodiff_pipeline.search.space import Candidate, SearchSpace
from duodiff_pipeline.search.storage import open_storage
from duodiff_pipeline.search.trials import trials_table

RUNGS = (100, 200, 400)
DEPTH = {"shallow": 1, "middle": 2, "deep": 3}


def gmacs(plan) -> float:
    return float(sum(DEPTH[name] for name in plan.schedule.assignment(plan.grid)))


class Measured:
    """FID falls with steps, with depth, most near data, and with the number of images; keeps what it was asked for."""

    def __init__(self, dies_at=None):
        self.asked, self.dies_at = [], dies_at

    def __call__(self, plan, n_images):
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append((plan.solver.steps, plan.runs, n_images))
        depths = [DEPTH[name] for name in plan.schedule.assignment(plan.grid)]
        late = sum(i * depth for i, depth in enumerate(depths)) / sum(range(len(depths)))
        return 50 / len(depths) + 10 / late + 1000 / n_images


def space(backbones=("shallow", "deep"), **changes):
    return SearchSpace(("ddim",), (5, 10), backbones, changes.pop("candidates", ()), NoiseSchedule(), **changes)


def run(folder, own, fid=None, budgets=(("within 0.5", 15.0),), budget_trials=8, n_trials=9, seed=0):
    folder.mkdir(exist_ok=True)
    measure = Measure(fid or Measured(), gmacs, RUNGS)
    studies = search(open_storage(folder, None, "key"), own, measure, budgets, budget_trials, n_trials, seed)
    return trials_table(studies, own, gmacs)


def test_within_a_budget_only_the_best_third_of_every_rung_goes_on(tmp_path):
    fid = Measured()
    table = run(tmp_path, space(), fid)
    within = table[table["study"] == "within 0.5"]
    assert len(within) == 8
    assert (within["gmacs"] <= 15).all()
    asked = [n_images for _, _, n_images in fid.asked]
    first_rung = asked[: asked.index(400, asked.index(400) + 1)].count(100)
    assert first_rung <= 8
    for given_up in within[within["fid"].isna()].itertuples():
        before = within[within["trial"] < given_up.trial]
        same_n = fid_at(given_up.given_up_after)
        reached = [same_n(row) for row in before.itertuples() if reaches(row, given_up.given_up_after)]
        assert sum(value < given_up.fid_given_up for value in reached) >= -(-(len(reached) + 1) // 3)
    assert within["fid"].isna().sum() >= 4


def fid_at(n_images):
    return lambda row: (
        (row.fid - 1000 / 400 if row.fid == row.fid else row.fid_given_up - 1000 / row.given_up_after)
        + (1000 / n_images)
    )


def reaches(row, n_images) -> bool:
    return row.fid == row.fid or row.given_up_after >= n_images


def test_the_front_begins_with_the_best_of_every_budget_and_what_was_given_up_may_come_again(tmp_path):
    budgets = (("within 0.3", 9.0), ("within 0.6", 18.0))
    table = run(tmp_path, space(), budgets=budgets)
    front = table[table["study"] == FRONT]
    bests = [own.loc[own["fid"].idxmin(), "plan"] for own in (table[table["study"] == name] for name, _ in budgets)]
    assert front["plan"].tolist()[: len(set(bests))] == list(dict.fromkeys(bests))
    alone = {f"ddim {steps}, {steps} {name}" for steps in (5, 10) for name in ("shallow", "deep")}
    assert alone <= set(front["plan"])
    assert front["fid"].notna().all()
    assert table.loc[table["on_front"], "fid"].notna().all()


def test_with_nothing_to_sample_the_front_ends_once_everything_has_been_walked_through(tmp_path):
    table = run(tmp_path, space(), n_trials=100)
    front = table[table["study"] == FRONT]
    switches = {f"ddim {s}, {k} shallow, {s - k} deep" for s in (5, 10) for k in range(1, s)}
    assert len(front) == front["plan"].nunique() == len(switches) + 4
    assert switches < set(front["plan"])


def test_what_costs_more_than_the_budget_is_never_measured_and_the_sampler_is_told(tmp_path):
    fid = Measured()
    own = space(("shallow", "middle", "deep"), candidates=(Candidate("thirds", "uniform", (667.0, 333.0)),))
    table = run(tmp_path, own, fid, budgets=(("within 0.3", 9.0),), budget_trials=24, n_trials=1)
    within = table[table["study"] == "within 0.3"]
    beyond = within[within["gmacs"] > 9]
    assert len(within) == 24
    assert len(beyond) > 2
    assert (beyond["given_up_after"] == 0).all()
    assert beyond["fid_given_up"].isna().all()
    dear = set(zip(beyond["steps"], beyond["plan"].str.split(", ", n=1).str[1], strict=True))
    assert dear.isdisjoint((steps, runs) for steps, runs, n in fid.asked if n < 400)
    walked = within["trial"] < len(own.walk(gmacs, 9.0))
    assert 0 < walked.sum() < 12
    assert (within.loc[walked, "serves"].map(len) < 3).all()
    assert (within.loc[~walked, "serves"].map(len) > 2).all()


def test_a_budget_that_buys_nothing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"budgets: 4 GMACs an image \(within 0.01\) buy no schedule"):
        run(tmp_path, space(), budgets=(("within 0.01", 4.0),))


def test_without_budgets_there_is_the_front_alone(tmp_path):
    assert set(run(tmp_path, space(), budgets=())["study"]) == {FRONT}


def test_a_search_that_is_killed_after_every_measurement_ends_like_one_that_was_not(tmp_path):
    own = space(("shallow", "middle", "deep"))
    options = {"budgets": (("within 0.3", 9.0), ("within 0.6", 18.0)), "budget_trials": 10, "n_trials": 20}
    whole = Measured()
    expected = run(tmp_path / "whole", own, whole, **options)
    kills = 0
    for dies_at in itertools.cycle((3, 1, 0, 2)):  # a killed trial measures its first rungs again: remembered, really
        fid = Measured(dies_at + 3)
        try:
            table = run(tmp_path / "killed", own, fid, **options)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 10
    assert table.equals(expected)
