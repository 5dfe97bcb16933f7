import json
import warnings

import pytest

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.errors import InputError

NOISE = NoiseSchedule()
PAIR = ("shallow", "deep")
HEUN = (999.0, 949.0, 949.0, 899.0, 899.0, 899.0, 849.0)  # solvers that evaluate twice at a timestep have such grids


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmsolver++"])
def test_k_counts_the_evaluations_of_the_first_stage(name):
    grid = Solver(name, 7).grid(NOISE)
    for k in range(8):
        schedule = StageSchedule.from_switch(k, grid, PAIR, NOISE)
        assert schedule.assignment(grid) == ("shallow",) * k + ("deep",) * (7 - k)
        assert schedule.switch(grid) == k
        assert [schedule.stage(n) for n in grid] == [0] * k + [1] * (7 - k)


def test_edge_lies_between_the_evaluations_that_it_parts():
    grid = Solver("ddim", 20).grid(NOISE)
    for k in range(1, 20):
        (edge,) = StageSchedule.from_switch(k, grid, PAIR, NOISE).edges
        assert grid[k - 1] >= edge > grid[k]


def test_a_stage_that_serves_nothing_is_empty_on_the_whole_axis():
    grid = Solver("ddim", 20).grid(NOISE)
    none, all_of_them = (StageSchedule.from_switch(k, grid, PAIR, NOISE) for k in (0, 20))
    assert (none.edges, none.stage_range(0), none.stage_range(1)) == ((1000.0,), (1000.0, 1000.0), (0.0, 1000.0))
    assert (all_of_them.edges, all_of_them.stage(0.0)) == ((0.0,), 0)


@pytest.mark.parametrize(("wanted", "k"), [(2, 3), (4, 6), (5, 6)])
def test_evaluations_at_one_timestep_are_never_split_and_k_rounds_up(wanted, k):
    with pytest.warns(UserWarning, match=f"k = {wanted} would split .* rounded up to {k}"):
        schedule = StageSchedule.from_switch(wanted, HEUN, PAIR, NOISE)
    assert schedule.switch(HEUN) == k
    assert schedule.assignment(HEUN) == ("shallow",) * k + ("deep",) * (7 - k)


def test_rounding_up_may_reach_the_end():
    with pytest.warns(UserWarning, match="rounded up to 3"):
        schedule = StageSchedule.from_switch(2, (999.0, 499.0, 499.0), PAIR, NOISE)
    assert schedule.assignment((999.0, 499.0, 499.0)) == ("shallow",) * 3


@pytest.mark.parametrize("k", [0, 1, 3, 6, 7])
def test_a_switch_that_splits_nothing_is_taken_silently(k):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert StageSchedule.from_switch(k, HEUN, PAIR, NOISE).switch(HEUN) == k


@pytest.mark.parametrize("k", [-1, 21])
def test_a_switch_outside_the_evaluations_is_refused(k):
    grid = Solver("ddim", 20).grid(NOISE)
    with pytest.raises(InputError, match=rf"switch k = {k} must lie within 0\.\.20"):
        StageSchedule.from_switch(k, grid, PAIR, NOISE)


def test_stage_j_serves_from_its_lower_edge_to_below_its_upper_one():
    schedule = StageSchedule((700.0, 300.0), ("a", "b", "c"), NOISE)
    served = {999.0: 0, 700.5: 0, 700.0: 0, 699.9: 1, 300.0: 1, 299.9: 2, 0.0: 2}
    assert {n: schedule.stage(n) for n in served} == served
    assert [schedule.stage_range(j) for j in range(3)] == [(700.0, 1000.0), (300.0, 700.0), (0.0, 300.0)]
    for n in served:
        low, high = schedule.stage_range(schedule.stage(n))
        assert low <= n < high


def test_an_edge_on_a_timestep_of_the_grid_leaves_that_evaluation_to_the_first_stage():
    grid = Solver("ddim", 20).grid(NOISE)
    for k, n in enumerate(grid, start=1):
        schedule = StageSchedule((n,), PAIR, NOISE)
        assert schedule.switch(grid) == k
        assert schedule.assignment(grid) == ("shallow",) * k + ("deep",) * (20 - k)


def test_one_edge_means_the_same_timesteps_for_every_solver():
    schedule = StageSchedule((600.0,), PAIR, NOISE)  # the papers' t_s = 400
    switches = {steps: schedule.switch(Solver("ddim", steps).grid(NOISE)) for steps in (5, 10, 50, 1000)}
    assert switches == {5: 2, 10: 4, 50: 20, 1000: 400}


@pytest.mark.parametrize(
    "schedule",
    [
        StageSchedule((), ("deep",), NOISE),
        StageSchedule((1000 / 3, 0.1), ("a", "b", "a"), NoiseSchedule("cosine", 500)),
    ],
)
def test_json_round_trip_keeps_everything(schedule):
    assert StageSchedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


@pytest.mark.parametrize(
    ("edges", "serves", "reason"),
    [
        ((300.0, 700.0), ("a", "b", "c"), "must descend"),
        ((300.0, 300.0), ("a", "b", "c"), "must descend"),
        ((1000.5,), PAIR, r"must lie within 0\.\.1000"),
        ((-1.0,), PAIR, r"must lie within 0\.\.1000"),
        ((float("nan"),), PAIR, r"must lie within 0\.\.1000"),
        ((500.0,), ("deep",), "1 edges make 2 stages, but 1 denoisers are named"),
        ((), (), "0 edges make 1 stages, but 0 denoisers are named"),
    ],
)
def test_a_schedule_that_is_none_is_refused(edges, serves, reason):
    with pytest.raises(InputError, match=reason):
        StageSchedule(edges, serves, NOISE)
