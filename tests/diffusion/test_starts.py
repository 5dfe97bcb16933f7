"""Shared starts: what goes on from an earlier run's state is what begins at noise, bit for bit, for every solver."""

from typing import get_args

import pytest
import torch

from duodiff_pipeline.diffusion.denoiser import Prediction
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver, SolverName
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.diffusion.starts import SharedStarts
from duodiff_pipeline.networks.staged import StagedDenoiser

NOISE = NoiseSchedule()
SHAPE = (1, 4, 4)
STATE_BYTES = 2 * 16 * 4  # of x alone, in micro-batches of 2


class Scaled:
    """Predicts a multiple of x, and counts its calls."""

    def __init__(self, factor):
        self.factor, self.calls = factor, 0

    def predict(self, x, timestep, labels=None):
        self.calls += 1
        ones = torch.ones(len(x), dtype=torch.long)
        return Prediction(self.factor * x.sin(), 3 * ones, int(100 * self.factor) * ones)


def switched(k, solver, starts=None, seed=0, images=4):
    """Samples of a switch, and how often its two networks were called."""
    grid = solver.grid(NOISE)
    schedule = StageSchedule.from_switch(k, grid, ("shallow", "deep"), NOISE).serving(grid)
    networks = {"shallow": Scaled(0.3), "deep": Scaled(0.7)}
    served_by = [(schedule.stage(n), schedule.serves[schedule.stage(n)]) for n in grid]
    start = starts.of(served_by) if starts else None
    denoiser = StagedDenoiser(schedule, networks)
    samples = sample(denoiser, solver, NOISE, SHAPE, range(images), seed, 2, start=start)
    return samples, (networks["shallow"].calls, networks["deep"].calls)


def solvers():
    carried = [Solver(name, 7, history="carried") for name in get_args(SolverName)]
    return [*carried, *(Solver(s.name, 7, history="dropped") for s in carried if s.has_history), Solver("ddim", 7, 0.5)]


@pytest.mark.parametrize("solver", solvers(), ids=lambda solver: solver.label)
@pytest.mark.parametrize("order", [1, -1], ids=["early switches first", "late switches first"])
def test_a_hit_is_a_miss_bit_for_bit(solver, order):
    starts = SharedStarts(2**20)
    for k in solver.switches[::order]:
        shared, _ = switched(k, solver, starts)
        alone, _ = switched(k, solver)
        assert torch.equal(shared.images, alone.images)
        for what in ("timesteps", "stages", "exit_depth", "macs"):
            assert (getattr(shared.trace, what) == getattr(alone.trace, what)).all()
        assert len(shared.trace.seconds) == len(solver.grid(NOISE))
    assert starts.hits >= 2 * (len(solver.switches) - 2)


def test_all_switches_cost_one_run_of_the_first_network_and_half_of_all_runs_of_the_second():
    solver, starts = Solver("ddim", 7), SharedStarts(2**20)
    calls = [switched(k, solver, starts, images=2)[1] for k in range(8)]
    assert [shallow for shallow, _ in calls] == [0, 1, 1, 1, 1, 1, 1, 1]
    assert [deep for _, deep in calls] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert (starts.hits, starts.misses) == (6, 2)
    assert [switched(k, solver, starts, images=2)[1] for k in (7, 0)] == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    "other",
    [{"solver": Solver("ddim", 6)}, {"solver": Solver("ddim", 7, 0.1)}, {"solver": Solver("ddpm", 7)}, {"seed": 1}],
    ids=["steps", "eta", "solver", "seed"],
)
def test_what_differs_from_the_start_shares_nothing(other):
    starts = SharedStarts(2**20)
    switched(7, Solver("ddim", 7), starts)
    asked = {"solver": Solver("ddim", 7), **other}
    samples, (shallow, _) = switched(3, **asked, starts=starts)
    assert shallow == 2 * 3
    assert torch.equal(samples.images, switched(3, **asked)[0].images)


def test_states_beyond_the_bound_go_the_least_used_first():
    solver = Solver("ddim", 7)
    run = solver.start(NOISE)
    starts = SharedStarts(4 * (STATE_BYTES + run.history_bytes))  # four states of 14
    switched(7, solver, starts, images=2)
    samples, (shallow, _) = switched(7, solver, starts, images=2)
    assert shallow == 0
    switched(7, solver, starts, seed=1, images=2)
    again, (shallow, _) = switched(7, solver, starts, images=2)
    assert shallow == 7
    assert torch.equal(again.images, samples.images)
    nothing = SharedStarts(0)
    switched(7, solver, nothing)
    assert switched(7, solver, nothing)[1][0] == 14
