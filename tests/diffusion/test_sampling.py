from typing import get_args

import numpy as np
import pytest
import torch

from duodiff_pipeline.diffusion.denoiser import Prediction
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.random import image_noise
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver, SolverName
from duodiff_pipeline.errors import InputError

NOISE = NoiseSchedule()
SHAPE = (1, 4, 4)


class Recorder:
    """Predicts something made up and notes what it was asked; image i exits at a depth that its pixels decide."""

    def __init__(self):
        self.asked = []

    def predict(self, x, timestep, labels=None):
        self.asked.append((x.clone(), timestep))
        depth = (x[:, 0, 0, 0] > 0).long() + 1
        return Prediction(0.5 * x, depth, depth * 10**6, stage=int(timestep < 500))


def draw(indices, micro_batch_images=4, solver=None, seed=0):
    recorder = Recorder()
    return sample(recorder, solver or Solver("ddim", 5), NOISE, SHAPE, indices, seed, micro_batch_images), recorder


def test_every_micro_batch_is_full():
    _, recorder = draw(range(6, 7))
    assert [len(x) for x, _ in recorder.asked] == [4] * 5
    _, recorder = draw(range(3, 9))
    assert [len(x) for x, _ in recorder.asked] == [4] * 15


@pytest.mark.parametrize("start", [0, 4, 5])
def test_initial_noise_is_keyed_by_the_image_index(start):
    _, recorder = draw(range(start, start + 1), seed=9)
    first, timestep = recorder.asked[0]
    assert timestep == 999.0
    assert torch.equal(first, image_noise(9, range(start // 4 * 4, start // 4 * 4 + 4), SHAPE, 0))


def test_noise_after_evaluation_i_is_keyed_by_the_image_and_i_plus_one():
    solver = Solver("ddpm", 3)
    samples, recorder = draw(range(4, 8), solver=solver, seed=2)
    run = solver.start(NOISE)
    x = image_noise(2, range(4, 8), SHAPE, 0)
    for i, (seen, _) in enumerate(recorder.asked):
        assert torch.equal(seen, x)
        x = run.step(0.5 * x, i, x, image_noise(2, range(4, 8), SHAPE, i + 1))
    assert torch.equal(samples.images, x)


@pytest.mark.parametrize(
    "solver",
    [
        Solver("ddim", 4, 0.7),
        Solver("unipc3", 6, history="dropped"),
        *(Solver(name, 4) for name in get_args(SolverName)),
    ],
    ids=lambda solver: solver.label,
)
def test_an_image_is_the_same_in_every_range_that_holds_it(solver):
    whole, _ = draw(range(11), solver=solver)
    for start, stop in ((0, 1), (3, 5), (4, 8), (7, 11), (10, 11)):
        part, _ = draw(range(start, stop), solver=solver)
        assert torch.equal(part.images, whole.images[start:stop])
        assert np.array_equal(part.trace.exit_depth, whole.trace.exit_depth[:, start:stop])
        assert np.array_equal(part.trace.macs, whole.trace.macs[:, start:stop])


def test_images_and_seeds_differ():
    images = torch.cat([draw(range(6), seed=seed)[0].images for seed in (0, 1)])
    assert len({image.numpy().tobytes() for image in images}) == 12


def test_trace_says_what_every_evaluation_did():
    samples, recorder = draw(range(2, 7))
    trace = samples.trace
    assert samples.images.shape == (5, *SHAPE)
    assert samples.images.dtype == torch.float32
    assert trace.nfe == 5
    assert trace.timesteps.tolist() == [999.0, 799.0, 599.0, 399.0, 199.0]
    assert trace.stages.tolist() == [0, 0, 0, 1, 1]
    seen = torch.stack([torch.cat([recorder.asked[i][0], recorder.asked[i + 5][0]]) for i in range(5)])[:, 2:7]
    depth = 1 + (seen[:, :, 0, 0, 0] > 0).long().numpy()
    assert np.array_equal(trace.exit_depth, depth)
    assert np.array_equal(trace.macs, depth * 10**6)
    assert trace.gmacs_per_image == pytest.approx(depth.sum() * 1e6 / 5 / 1e9)
    assert trace.seconds.shape == (5,)
    assert (trace.seconds > 0).all()


@pytest.mark.parametrize("indices", [range(0), range(5, 5), range(0, 8, 2), range(5, 0, -1)])
def test_image_indices_that_are_no_run_are_refused(indices):
    with pytest.raises(InputError, match="non-empty range of step 1"):
        draw(indices)
