import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.search.space import Candidate, SearchSpace
from duodiff_pipeline.search.trials import best, best_by_parts, rest_of_front, spread, trials_table

SPACE = SearchSpace(
    ("ddim",),
    (5,),
    ("shallow", "middle", "deep"),
    (Candidate("halves", "uniform", (500.0,)), Candidate("thirds", "uniform", (667.0, 333.0))),
    NoiseSchedule(),
)
BY_2, BY_3 = "edges of 2 stages by", "edges of 3 stages by"
ALL = "shallow, middle, deep"


def finished(number, parameters, fid, gmacs):
    """A finished trial as a study holds it."""
    everything = {"solver": "ddim", "steps": 5, **parameters}
    distributions = {
        name: FloatDistribution(0, 1) if name.startswith("share") else CategoricalDistribution((value,))
        for name, value in everything.items()
    }
    trial = create_trial(params=everything, distributions=distributions, values=[fid, gmacs])
    trial.number = number
    return trial


def cost(plan):
    return float(len(plan.grid))


def given_up(number, fids):
    """A trial of a budget that was given up, with what it had reported after so many images."""
    choices = {"solver": "ddim", "steps": 5, "serves": "deep"}
    distributions = {name: CategoricalDistribution((value,)) for name, value in choices.items()}
    trial = create_trial(state=TrialState.PRUNED, params=choices, distributions=distributions, intermediate_values=fids)
    trial.number = number
    return trial


def table_of(trials, space):
    """Of one study, where every trial costs what it says."""
    costs = iter([trial.values[1] for trial in trials])
    return trials_table([("front", trials)], space, lambda plan: next(costs))


def test_what_was_given_up_has_no_fid_and_is_on_no_front():
    budget = [given_up(0, {16: 30.0, 32: 20.0}), given_up(1, {})]
    table = trials_table([("within 0.5", budget), ("front", [finished(0, {"serves": "deep"}, 8.0, 5.0)])], SPACE, cost)
    assert table["study"].tolist() == ["within 0.5", "within 0.5", "front"]
    assert table["fid"].isna().tolist() == [True, True, False]
    assert table["given_up_after"].tolist() == [32, 0, pd.NA]
    assert table["fid_given_up"].iloc[0] == 20.0
    assert table["fid_given_up"].isna().tolist() == [False, True, True]
    assert table["on_front"].tolist() == [False, False, True]
    assert best(budget) is None


def test_table_says_what_every_trial_came_to():
    shares = {"share of stage 1": 0.0, "share of stage 2": 1.0}
    table = table_of(
        [
            finished(0, {"serves": "deep"}, 8.0, 5.0),
            finished(1, {"serves": "shallow, deep", BY_2: "switch", "share of stage 1": 0.3}, 9.0, 3.0),
            finished(2, {"serves": "middle, deep", BY_2: "uniform", "uniform of 2 stages": "halves"}, 9.5, 3.5),
            finished(4, {"serves": ALL, BY_3: "uniform", "uniform of 3 stages": "thirds"}, 20.0, 1.0),
            finished(5, {"serves": ALL, BY_3: "switch", **shares}, 21.0, 1.5),
        ],
        SPACE,
    )
    assert table["trial"].tolist() == [0, 1, 2, 4, 5]
    assert table["plan"].tolist() == [
        "ddim 5, 5 deep",
        "ddim 5, 2 shallow, 3 deep",
        "ddim 5, 3 middle, 2 deep",
        "ddim 5, 2 shallow, 2 middle, 1 deep",
        "ddim 5, 1 shallow, 3 middle, 1 deep",
    ]
    assert table["k"].isna().tolist() == [True, False, False, True, True]
    assert table["k"][1:3].tolist() == [2, 3]
    assert table["edges"].tolist() == [[], [699.0], [500.0], [667.0, 333.0], [899.0, 299.0]]
    assert table["serves"].tolist() == [["deep"], ["shallow", "deep"], ["middle", "deep"], *[ALL.split(", ")] * 2]
    assert table["edges_by"].tolist() == ["one stage", "switch", "uniform", "uniform", "switch"]
    assert (table["nfe"] == 5).all()
    assert table["fid"].tolist() == [8.0, 9.0, 9.5, 20.0, 21.0]
    assert table["gmacs"].tolist() == [5.0, 3.0, 3.5, 1.0, 1.5]
    assert table["on_front"].tolist() == [True, True, False, True, False]


def test_a_dropped_history_is_told_apart():
    space = SearchSpace(("unipc",), (5,), ("shallow", "deep"), (), NoiseSchedule(), ("carried", "dropped"))
    two = {"solver": "unipc", "serves": "shallow, deep", BY_2: "switch", "share of stage 1": 0.3}
    trials = [finished(i, {**two, "history": history}, 9.0, 3.0) for i, history in enumerate(("carried", "dropped"))]
    found = table_of([*trials, finished(2, {"solver": "unipc", "serves": "deep"}, 8.0, 5.0)], space)
    assert found["history"].tolist() == ["carried", "dropped", "carried"]
    assert found["plan"].tolist()[:2] == ["unipc 5, 2 shallow, 3 deep", "unipc history dropped 5, 2 shallow, 3 deep"]


def test_a_study_of_single_stages_alone_has_a_table_too():
    table = table_of([finished(0, {"serves": "deep"}, 8.0, 5.0)], SPACE)
    assert table["k"].isna().all()
    assert table["on_front"].tolist() == [True]
    assert spread(table, 3) == []


def table(*rows) -> pd.DataFrame:
    """Of (plan, stages, fid, gmacs, on_front)."""
    columns = pd.DataFrame(rows, columns=["plan", "stages", "fid", "gmacs", "on_front"])
    serves = columns["stages"].map(lambda stages: ["shallow", "middle", "deep"][-stages:])
    return columns.assign(serves=serves, trial=range(len(rows)), edges_by="switch")


def plans(rows) -> list[str]:
    return [row["plan"] for row in rows]


FRONT = [(f"k={k}", 3 if k == 5 else 2, 10.0 + k, 20.0 - k, True) for k in (5, 1, 9, 3, 7)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["k=1"]),
        (2, ["k=1", "k=9"]),
        (3, ["k=1", "k=5", "k=9"]),
        (4, ["k=1", "k=3", "k=7", "k=9"]),
        (5, ["k=1", "k=3", "k=5", "k=7", "k=9"]),
        (9, ["k=1", "k=3", "k=5", "k=7", "k=9"]),
    ],
)
def test_spread_goes_from_the_lowest_fid_to_the_lowest_cost(count, expected):
    assert plans(spread(table(*FRONT), count)) == expected


def test_spread_takes_only_what_several_networks_serve():
    alone = [("deep", 1, 5.0, 30.0, True), ("shallow", 1, 90.0, 10.0, True)]
    assert plans(spread(table(*alone, *FRONT), 9)) == ["k=1", "k=3", "k=5", "k=7", "k=9"]
    assert spread(table(*alone), 2) == []


def test_spread_leaves_out_what_is_beaten_and_what_is_there_already():
    beaten, twice = ("k=4", 2, 30.0, 16.0, False), FRONT[0]
    assert plans(spread(table(*FRONT, beaten, twice), 9)) == ["k=1", "k=3", "k=5", "k=7", "k=9"]


def test_where_the_front_has_no_several_stages_the_best_of_them_is_taken():
    rows = [("deep", 1, 5.0, 3.0, True), ("k=2", 2, 9.0, 8.0, False), ("k=6", 3, 7.0, 9.0, False)]
    assert plans(spread(table(*rows), 3)) == ["k=6"]


def test_of_equal_fid_the_cheaper_comes_first():
    rows = [("dear", 2, 7.0, 9.0, False), ("cheap", 2, 7.0, 8.0, False), ("deep", 1, 5.0, 3.0, True)]
    assert plans(spread(table(*rows), 1)) == ["cheap"]


def test_the_rest_of_the_front_is_all_that_is_not_taken_yet():
    alone = [("deep", 1, 5.0, 30.0, True), ("middle", 1, 6.0, 25.0, False), ("shallow", 1, 90.0, 10.0, True)]
    found = table(*alone, *FRONT, FRONT[0])
    taken = spread(found, 3)
    rest = plans(rest_of_front(found, taken))
    assert set(rest) == {"deep", "shallow", "k=3", "k=7"}
    assert len(rest) == 4
    found.loc[found["plan"] == "shallow", "edges_by"] = "decoders"
    assert "shallow" not in plans(rest_of_front(found, taken))


def test_exit_schedules_are_chosen_for_themselves():
    found = table(
        *FRONT, ("ase dear", 3, 8.0, 15.0, False), ("ase cheap", 2, 9.0, 9.0, False), ("ase/5", 1, 1.0, 1.0, True)
    )
    exits = found["plan"].str.startswith("ase")
    found.loc[exits, "edges_by"] = "exit schedule"
    assert plans(spread(found, 9)) == ["k=1", "k=3", "k=5", "k=7", "k=9"]
    assert plans(best_by_parts(found)) == ["ase dear"]
    found.loc[found["plan"] == "ase cheap", "on_front"] = True
    assert plans(best_by_parts(found)) == ["ase cheap"]
    assert best_by_parts(found[~exits]) == []
    found.loc[found["plan"] == "ase dear", "edges_by"] = "decoders"
    assert plans(best_by_parts(found)) == ["ase cheap", "ase dear"]
