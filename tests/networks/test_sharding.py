"""Generated images depend on their index alone: not on how many are drawn, where a range starts, or who draws them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.images.pixels import to_uint8
from duodiff_pipeline.networks.adaptive import AdaptiveDenoiser
from duodiff_pipeline.networks.staged import StagedDenoiser

SHAPE = (1, 8, 8)
SOLVERS = [Solver("ddim", 6), Solver("ddim", 6, 0.5), Solver("ddpm", 6), Solver("dpmsolver++", 6)]


@pytest.fixture(scope="module")
def static(make_uvit, noise):
    schedule = StageSchedule((600.0,), ("shallow", "deep"), noise)
    networks = {"shallow": make_uvit(1, predicts="image"), "deep": make_uvit(2, depth=5, predicts="image")}
    return StagedDenoiser(schedule, networks)


@pytest.fixture(scope="module")
def adaptive(make_uvit, make_exits):
    network = make_uvit(3, depth=5, predicts="image")
    return AdaptiveDenoiser(network, make_exits(network), threshold=0.12)


@pytest.fixture(params=["static", "adaptive"], scope="module")
def denoiser(request):
    return request.getfixturevalue(request.param)


def draw(denoiser, solver, noise, indices, micro_batch_images=5):
    return sample(denoiser, solver, noise, SHAPE, indices, 7, micro_batch_images)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.label)
def test_images_are_bit_identical_for_any_range_and_any_shard(denoiser, solver, noise):
    whole = draw(denoiser, solver, noise, range(13))
    assert len({image.numpy().tobytes() for image in whole.images}) == 13
    for cuts in ((0, 13), (0, 1, 13), (0, 4, 6, 11, 13), (2, 3), (5, 10), (12, 13)):
        for start, stop in pairwise(cuts):
            part = draw(denoiser, solver, noise, range(start, stop))
            assert torch.equal(part.images, whole.images[start:stop])
            assert np.array_equal(part.trace.exit_depth, whole.trace.exit_depth[:, start:stop])
            assert np.array_equal(part.trace.macs, whole.trace.macs[:, start:stop])


def test_the_adaptive_denoiser_above_really_exits_at_several_depths(adaptive, noise):
    depths = draw(adaptive, SOLVERS[0], noise, range(13)).trace.exit_depth
    assert len(np.unique(depths)) >= 3
    assert any(len(np.unique(row)) > 1 for row in depths)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.label)
def test_static_images_agree_across_micro_batches(static, solver, noise):
    expected = draw(static, solver, noise, range(9), 9).images
    assert expected.std() > 0.1
    assert expected.abs().max() < 10  # images, not noise that has grown
    for micro_batch_images in (1, 4, 16):
        found = draw(static, solver, noise, range(9), micro_batch_images).images
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert (to_uint8(found).int() - to_uint8(expected).int()).abs().max() <= 1
