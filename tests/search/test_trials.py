import pandas as pd
import pytest
from optuna.trial import create_trial

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.search.space import SearchSpace
from duodiff_pipeline.search.trials import spread, trials_table

SPACE = SearchSpace(
    ("ddim",), (5,), {"uniform: timestep": 500.0, "odd: edge": 599.0}, "shallow", "deep", NoiseSchedule()
)


def finished(number, parameters, fid, gmacs):
    """A finished trial as a study holds it."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    everything = {"solver": "ddim", "steps": 5, **parameters}
    distributions = {
        name: IntDistribution(0, 5) if name == "k of 5" else CategoricalDistribution((value,))
        for name, value in everything.items()
    }
    trial = create_trial(params=everything, distributions=distributions, values=[fid, gmacs])
    trial.number = number
    return trial


def test_table_says_what_every_trial_came_to():
    table = trials_table(
        [
            finished(0, {"edges_by": "one stage", "serves": "deep"}, 8.0, 5.0),
            finished(1, {"edges_by": "switch", "k of 5": 2}, 9.0, 3.0),
            finished(2, {"edges_by": "uniform", "uniform edge": "uniform: timestep"}, 9.5, 3.5),
            finished(4, {"edges_by": "odd", "odd edge": "odd: edge"}, 20.0, 1.0),
        ],
        SPACE,
    )
    assert table["trial"].tolist() == [0, 1, 2, 4]
    assert table["plan"].tolist() == [
        "ddim 5, 5 deep",
        *["ddim 5, 2 shallow, 3 deep"],
        *["ddim 5, 3 shallow, 2 deep"] * 2,
    ]
    assert table["k"].isna().tolist() == [True, False, False, False]
    assert table["k"][1:].tolist() == [2, 3, 3]
    assert table["edges"].tolist() == [[], [699.0], [500.0], [599.0]]
    assert table["serves"].tolist() == [["deep"], *[["shallow", "deep"]] * 3]
    assert table["edges_by"].tolist() == ["one stage", "switch", "uniform", "odd"]
    assert (table["nfe"] == 5).all()
    assert table["fid"].tolist() == [8.0, 9.0, 9.5, 20.0]
    assert table["gmacs"].tolist() == [5.0, 3.0, 3.5, 1.0]
    assert table["on_front"].tolist() == [True, True, False, True]


def test_a_study_of_single_stages_alone_has_a_table_too():
    table = trials_table([finished(0, {"edges_by": "one stage", "serves": "deep"}, 8.0, 5.0)], SPACE)
    assert table["k"].isna().all()
    assert table["on_front"].tolist() == [True]
    assert spread(table, 3) == []


def table(*rows) -> pd.DataFrame:
    """Of (plan, k, fid, gmacs, on_front) with 10 evaluations each."""
    columns = pd.DataFrame(rows, columns=["plan", "k", "fid", "gmacs", "on_front"])
    return columns.assign(nfe=10, trial=range(len(rows))).astype({"k": "Int64"})


def plans(rows) -> list[str]:
    return [row["plan"] for row in rows]


FRONT = [(f"k={k}", k, 10.0 + k, 20.0 - k, True) for k in (5, 1, 9, 3, 7)]


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


def test_spread_takes_only_what_both_stages_serve():
    alone = [("deep", None, 5.0, 30.0, True), ("k=0", 0, 5.0, 30.0, True), ("k=10", 10, 90.0, 10.0, True)]
    assert plans(spread(table(*alone, *FRONT), 9)) == ["k=1", "k=3", "k=5", "k=7", "k=9"]
    assert spread(table(*alone), 2) == []


def test_spread_leaves_out_what_is_beaten_and_what_is_there_already():
    beaten, twice = ("k=4", 4, 30.0, 16.0, False), FRONT[0]
    assert plans(spread(table(*FRONT, beaten, twice), 9)) == ["k=1", "k=3", "k=5", "k=7", "k=9"]


def test_where_the_front_has_no_two_stages_the_best_of_them_is_taken():
    rows = [("deep", None, 5.0, 3.0, True), ("k=2", 2, 9.0, 8.0, False), ("k=6", 6, 7.0, 9.0, False)]
    assert plans(spread(table(*rows), 3)) == ["k=6"]


def test_of_equal_fid_the_cheaper_comes_first():
    rows = [("dear", 2, 7.0, 9.0, False), ("cheap", 6, 7.0, 8.0, False), ("deep", None, 5.0, 3.0, True)]
    assert plans(spread(table(*rows), 1)) == ["cheap"]
