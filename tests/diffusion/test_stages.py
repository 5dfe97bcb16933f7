import json
import warnings
from itertools import product

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


TRIO = ("a", "b", "c")


@pytest.mark.parametrize("counts", list(product(range(8), repeat=2)))
def test_counts_say_who_serves_how_many_and_who_serves_none_has_no_stage(counts):
    grid = Solver("ddim", 7).grid(NOISE)
    counts = (*counts, 7 - sum(counts))
    if counts[-1] < 0:
        with pytest.raises(InputError, match="do not say how many of 7 evaluations"):
            StageSchedule.from_counts(counts, grid, TRIO, NOISE)
        return
    schedule = StageSchedule.from_counts(counts, grid, TRIO, NOISE)
    assert schedule.assignment(grid) == tuple(name for name, n in zip(TRIO, counts, strict=True) for _ in range(n))
    assert schedule.counts(grid) == tuple(n for n in counts if n)
    assert schedule.serving(grid) == schedule


@pytest.mark.parametrize("counts", [(3, 4), (3, 3, 2), (3, 5, -1)])
def test_counts_that_are_not_those_of_the_grid_are_refused(counts):
    with pytest.raises(InputError, match=r"do not say how many of 7 evaluations each of \['a', 'b', 'c'\] serves"):
        StageSchedule.from_counts(counts, Solver("ddim", 7).grid(NOISE), TRIO, NOISE)


def test_a_stage_that_rounding_up_empties_is_left_out():
    with pytest.warns(UserWarning, match="rounded up"):
        schedule = StageSchedule.from_counts((4, 1, 2), HEUN, TRIO, NOISE)
    assert schedule.assignment(HEUN) == ("a",) * 6 + ("c",)
    assert schedule.serves == ("a", "c")


@pytest.mark.parametrize(
    ("edges", "counts", "serving"),
    [
        ((700.0, 300.0), (3, 4, 3), TRIO),
        ((650.0, 640.0), (4, 0, 6), ("a", "c")),
        ((999.5, 400.0), (0, 6, 4), ("b", "c")),
        ((400.0, 50.0), (6, 4, 0), ("a", "b")),
        ((999.5, 50.0), (0, 10, 0), ("b",)),
        ((999.5, 999.2), (0, 0, 10), ("c",)),
        ((799.0, 399.0), (3, 4, 3), TRIO),  # on timesteps of the grid, which go to the stage before
    ],
)
def test_stages_that_serve_nothing_are_left_out_and_nothing_else_changes(edges, counts, serving):
    grid = Solver("ddim", 10).grid(NOISE)
    schedule = StageSchedule(edges, TRIO, NOISE)
    assert schedule.counts(grid) == counts
    assert schedule.serving(grid).serves == serving
    assert schedule.serving(grid).assignment(grid) == schedule.assignment(grid)


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
