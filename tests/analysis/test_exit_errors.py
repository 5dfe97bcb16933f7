"""The proxy of exit schedules against sums written out, and the candidates that it leaves."""

import pytest
import torch

from duodiff_pipeline.analysis.exit_errors import excess_error, exit_errors
from duodiff_pipeline.analysis.loss_gap import noise_errors
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.search.exit_candidates import exit_candidates

X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


@pytest.fixture(scope="module")
def networks(make_uvit):
    return make_uvit(1, depth=5), make_uvit(2, depth=5)


@pytest.fixture(scope="module")
def errors(networks):
    return exit_errors(*networks, X, seed=3)


def test_every_depth_has_its_own_error_at_every_timestep(networks, errors, noise):
    solver = Solver("ddim", 20)
    assert sorted(errors["depth"].unique()) == [3, 4, 5]
    for depth, own in errors.groupby("depth"):
        assert tuple(own["timestep"]) == solver.grid(noise)
        for name, network in zip(("before", "after"), networks, strict=True):
            expected = noise_errors(network.part(str(depth)), X, solver.grid(noise), noise, 3).mean(axis=1)
            assert own[name].to_numpy() == pytest.approx(expected)


def test_excess_is_the_weighted_error_that_leaving_adds(networks, errors, noise):
    solver = Solver("ddim", 20)
    grid, c = solver.grid(noise), solver.coefficients(noise)
    schedule = ExitSchedule((5, 4, 3), noise)
    whole = sum(float(c[i] ** 2 * own) for i, own in enumerate(errors[errors["depth"] == 5]["before"]))
    for name in ("before", "after"):
        by_depth = {depth: own[name].to_list() for depth, own in errors.groupby("depth")}
        depth_at = [3 if 3 * n >= 2000 else 4 if 3 * n >= 1000 else 5 for n in grid]
        spent = sum(float(c[i] ** 2 * by_depth[depth][i]) for i, depth in enumerate(depth_at))
        assert excess_error(errors, schedule, name) == pytest.approx((spent - whole) / whole)
    assert excess_error(errors, ExitSchedule((5,), noise), "before") == 0


def test_candidates_are_monotone_distinct_and_on_the_front_of_error_and_cost(errors, noise):
    table = exit_candidates(errors, noise, 4)
    depths = [tuple(each) for each in table["depths"]]
    assert len(set(depths)) == len(depths)
    assert {(5,) * 10, (3,) * 10} < set(depths)
    assert {(5, 5, 5, 5, 5, 3, 3, 3, 3, 3)} < set(depths)  # DuoDiff's, which has no slope to speak of
    for row in table.to_dict("records"):
        schedule = ExitSchedule(tuple(row["depths"]), noise)  # refuses what rises
        made = ExitSchedule.from_knee(row["least"], row["knee"], row["slope"], 5, 10, noise)
        assert (schedule, schedule.mean_depth) == (made, row["mean_depth"])
        assert row["excess_after"] == excess_error(errors, schedule, "after")
        beats = (table["mean_depth"] <= row["mean_depth"]) & (table["excess_after"] < row["excess_after"])
        if row["taken"]:
            assert not beats.any()
    taken = table[table["taken"]]
    assert 1 <= len(taken) <= 4
    assert taken["mean_depth"].is_monotonic_increasing
    assert not exit_candidates(errors, noise, 0)["taken"].any()


@pytest.mark.parametrize("depths", [(5, 4, 4), (5, 5, 5, 5, 5, 3, 3, 3, 3, 3)])
def test_the_schedule_that_was_trained_is_a_candidate_that_is_taken(errors, noise, depths):
    table = exit_candidates(errors, noise, 1, ExitSchedule(depths, noise))
    (taken,) = table[table["taken"]].to_dict("records")
    assert tuple(taken["depths"]) == depths
    assert len(table) == len(exit_candidates(errors, noise, 0)) + (len(depths) == 3)
