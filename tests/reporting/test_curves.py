"""Curves of every switch, made so that what is better or worse than what is known."""

import numpy as np
import pandas as pd
import pytest

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.reporting.curves import controls, switch_curves
from duodiff_pipeline.reporting.figures_curves import curves_figure

NOISE = NoiseSchedule("cosine", 1000)
SEEDS = (101, 102, 103, 104, 105)
DEEP, SHALLOW, STEPS = 3.0, 1.0, 10


def plan(role: str, steps: int, fid: float, k: int | None = None, gmacs: float | None = None) -> pd.DataFrame:
    """Five blocks with a deviation that all plans share, and a small one of each plan's own."""
    own = np.random.default_rng([len(role), steps, k or 0]).normal(0, 0.01, len(SEEDS))
    shared = np.array([-1.0, 0.5, 0.0, 0.25, 0.25])
    cost = gmacs or steps * {"shallow": SHALLOW, "middle": 2.0}.get(role, DEEP)
    named = {"plan": f"{role} {steps} {k}", "role": role, "solver": "ddim", "steps": steps, "k": k, "gmacs": cost}
    return pd.DataFrame({**named, "seed": SEEDS, "fid": fid + shared + own - own.mean()}).astype({"k": "Int64"})


def duodiff(k: int, fid: float, role: str = "duodiff") -> pd.DataFrame:
    served = k if role == "duodiff" else STEPS - k
    return plan(role, STEPS, fid, k, served * SHALLOW + (STEPS - served) * DEEP)


@pytest.fixture
def table() -> pd.DataFrame:
    """Free up to k = 4; deep with s steps at 20 - s; reversed far worse; nothing that the middle network reaches."""
    switched = [duodiff(k, 10 + max(0, k - 4)) for k in range(1, STEPS)]
    alone = [plan("deep", s, 20 - s) for s in (5, 7, 8, STEPS)] + [plan("shallow", STEPS, 17)]
    return pd.concat([*switched, *alone, duodiff(STEPS - 3, 30, "reversed"), plan("middle", 50, 1)], ignore_index=True)


def test_a_curve_runs_from_deep_to_shallow(table):
    (curve,) = switch_curves(table, NOISE)
    assert (curve.solver, curve.steps) == ("ddim", STEPS)
    assert [point.k for point in curve.points] == list(range(STEPS + 1))
    assert [point.gmacs for point in curve.points] == [30 - 2 * k for k in range(STEPS + 1)]
    assert curve.points[0].fid.value == pytest.approx(10)
    assert curve.points[STEPS].fid.value == pytest.approx(17)
    assert curve.grid[0] == 999


def test_free_switches_end_where_the_deviation_begins(table):
    (curve,) = switch_curves(table, NOISE)
    assert curve.free == (4, 4)
    assert curve.against_deep(7).value == pytest.approx(3)


def test_a_switch_that_is_worse_between_two_free_ones_makes_a_range(table):
    table.loc[table["k"] == 2, "fid"] += 5
    (curve,) = switch_curves(table, NOISE)
    assert curve.free == (1, 4)


def test_all_switches_free_or_none(table):
    equal = table.assign(fid=table["fid"].where(~table["role"].isin(["duodiff", "shallow"]), 3.0))
    assert switch_curves(equal, NOISE)[0].free == (STEPS, STEPS)
    worse = table.assign(fid=table["fid"].where(~table["role"].isin(["duodiff", "shallow"]), 300.0))
    assert switch_curves(worse, NOISE)[0].free == (0, 0)


def test_a_network_alone_is_interpolated_at_the_cost_of_the_switch(table):
    (curve,) = switch_curves(table, NOISE)
    # k = 4 costs 22, between 7 and 8 deep steps (21 and 24): 13 - 1/3
    (rival,) = curve.rivals[4]
    assert (rival.role, rival.standing) == ("deep", "better")
    assert rival.difference.value == pytest.approx(10 - (13 - 1 / 3))
    # paired: the deviation that all plans share is gone
    assert rival.difference.high - rival.difference.low < 0.1


def test_rivals_stand_only_where_they_reach_the_cost(table):
    (curve,) = switch_curves(table, NOISE)
    by_k = {k: [rival.role for rival in own] for k, own in enumerate(curve.rivals)}
    assert by_k[3] == ["deep", "reversed"]
    assert by_k[7] == ["deep"]  # 16: above 15, what five deep steps cost
    assert by_k[8] == []


def test_the_order_reversed_is_held_against_the_switch_of_as_many_shallow_evaluations(table):
    (curve,) = switch_curves(table, NOISE)
    reversed_order = next(rival for rival in curve.rivals[3] if rival.role == "reversed")
    assert reversed_order.difference.value == pytest.approx(10 - 30)
    assert {k: rival.standing for k, rival in curve.against("reversed").items()} == {3: "better"}


def test_rank_correlation_with_an_error_that_rises_as_fid_does(table):
    (curve,) = switch_curves(table, NOISE)
    fids = [point.fid.value for point in curve.points]
    assert curve.rank_correlation([fid**3 for fid in fids]) == pytest.approx(1)
    assert curve.rank_correlation([-fid for fid in fids]) == pytest.approx(-1)


def test_controls_are_all_plans_but_duodiffs_and_shallow_ones(table):
    found = controls(table)
    assert [point.steps for point in found["deep"]] == [5, 7, 8, 10]
    assert [point.k for point in found["reversed"]] == [7]
    assert [point.steps for point in found["middle"]] == [50]


def test_a_curve_of_heun_has_a_point_wherever_the_timestep_falls(table):
    """Five steps are nine evaluations; free up to k = 3; deep first is held against the switch that it mirrors."""
    ks = (1, 3, 5, 7)
    switched = [plan("duodiff", 5, 10 + max(0, k - 3), k, k * SHALLOW + (9 - k) * DEEP) for k in ks]
    ends = [plan("deep", 5, 10, gmacs=9 * DEEP), plan("shallow", 5, 16, gmacs=9 * SHALLOW)]
    table = pd.concat([*switched, *ends, plan("reversed", 5, 30, 5, 5 * DEEP + 4 * SHALLOW)]).assign(solver="heun")
    (curve,) = switch_curves(table, NOISE)
    assert [point.k for point in curve.points] == [0, *ks, 9]
    assert len(curve.grid) == 9
    assert curve.free == (3, 3)
    against = curve.against("reversed")
    assert list(against) == [3]  # two timesteps shallow, too
    assert against[3].difference.value == pytest.approx(10 - 30)
    assert against[3].standing == "better"


def test_a_network_of_the_first_stage_is_held_against_the_shallow_one_and_drawn_beside_it(table):
    served = [duodiff(k, 9).assign(role="specialised", plan=f"specialised {k}") for k in (2, 4)]
    (curve,) = switch_curves(pd.concat([table, *served]), NOISE)
    against = curve.against("specialised")
    assert list(against) == [2, 4]
    assert against[2].difference.value == pytest.approx(10 - 9)
    assert against[2].standing == "worse"
    assert "specialised, then deep" in curves_figure([curve], controls(table), None)
    assert "specialised" not in curves_figure(switch_curves(table, NOISE), controls(table), None)
