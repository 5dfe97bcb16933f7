"""Images that several processes draw are those of one, byte for byte."""

from multiprocessing import active_children

import numpy as np
import pytest
import torch

from duodiff_pipeline.diffusion.guidance import GuidedDenoiser
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.sharding import Sampler
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.diffusion.starts import SharedStarts
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.adaptive import AdaptiveDenoiser
from duodiff_pipeline.networks.staged import StagedDenoiser
from duodiff_pipeline.networks.unet import UNet, UNetConfig

NOISE = NoiseSchedule()
SHAPE = (1, 8, 8)
IMAGES = range(3, 17)  # of four micro-batches of 5, the first and the last in part


@pytest.fixture(scope="module")
def two() -> Sampler:
    return Sampler("cpu", 5, devices=2, starts_bytes=2**20)


@pytest.fixture
def denoisers(make_uvit, make_exits):
    deep, shallow = make_uvit(1, depth=5, predicts="image"), make_uvit(2, predicts="image")
    conditional = make_uvit(3, num_classes=4, null_class=True)
    unet = UNet(UNetConfig(8, 1, 8, (8, 4), (1, 2), 1, predicts="image", noise=NOISE))
    generator = torch.Generator().manual_seed(0)
    for parameter in unet.requires_grad_(False).eval().parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    schedule = StageSchedule((600.0,), ("shallow", "deep"), NOISE)
    stages = StageSchedule((600.0,), ("0", "1"), NOISE)
    return {
        "staged": StagedDenoiser(schedule, {"shallow": shallow, "deep": deep}),
        "adaptive": AdaptiveDenoiser(deep, make_exits(deep), threshold=0.12),
        "guided": GuidedDenoiser(conditional, 3, 2.0),
        "decoders": StagedDenoiser(stages, {"0": unet.stages[0], "1": unet.stages[1]}),
    }


def assert_same(two: Sampler, one: Sampler, denoiser, solver: Solver) -> None:
    arguments = (denoiser, solver, NOISE, SHAPE, IMAGES, 7)
    for found, expected in zip(two.sample(*arguments), one.sample(*arguments), strict=True):
        assert found.images.numpy().tobytes() == expected.images.numpy().tobytes()
        for what in ("timesteps", "stages", "exit_depth", "macs"):
            assert np.array_equal(getattr(found.trace, what), getattr(expected.trace, what))


@pytest.mark.parametrize("name", ["staged", "adaptive"])
def test_images_of_two_processes_are_those_of_one(two, denoisers, name):
    for solver in (Solver("ddim", 4, 0.5), Solver("dpmsolver++", 4)):
        assert_same(two, Sampler("cpu", 5), denoisers[name], solver)


@pytest.mark.slow
def test_so_they_are_in_half_precision(denoisers):
    two, one = Sampler("cpu", 5, "bfloat16", devices=2), Sampler("cpu", 5, "bfloat16")
    for name in ("adaptive", "guided", "decoders"):
        assert_same(two, one, denoisers[name], Solver("dpmsolver++", 4))


def test_a_sampler_draws_the_images_of_sample(denoisers):
    arguments = (denoisers["staged"], Solver("ddim", 4), NOISE, SHAPE, IMAGES, 7)
    pieces = list(Sampler("cpu", 5).sample(*arguments))
    assert [len(piece.images) for piece in pieces] == [2, 5, 5, 2]
    assert torch.equal(torch.cat([piece.images for piece in pieces]), sample(*arguments, 5).images)


@pytest.mark.slow
def test_after_a_process_was_killed_comes_one_message_and_then_images_again(two, denoisers):
    list(two.sample(denoisers["staged"], Solver("ddim", 2), NOISE, SHAPE, IMAGES, 7))
    active_children()[0].kill()
    with pytest.raises(InputError, match=r"process \d of 2 ended by SIGKILL"):
        list(two.sample(denoisers["staged"], Solver("ddim", 2), NOISE, SHAPE, IMAGES, 7))
    assert_same(two, Sampler("cpu", 5), denoisers["staged"], Solver("ddim", 2))


def test_shared_starts_stay_with_the_process_that_has_them_and_change_no_image(two, make_uvit):
    networks = {"shallow": make_uvit(2), "deep": make_uvit(1, depth=5)}
    solver, starts = Solver("dpmsolver++", 5), SharedStarts(2**20)
    grid = solver.grid(NOISE)
    for k in (4, 3, 2):
        schedule = StageSchedule.from_switch(k, grid, ("shallow", "deep"), NOISE).serving(grid)
        served_by = [(schedule.stage(n), schedule.serves[schedule.stage(n)]) for n in grid]
        arguments = (StagedDenoiser(schedule, networks), solver, NOISE, SHAPE)
        drawn = list(two.sample(*arguments, IMAGES, 1, starts.of(served_by)))
        found = torch.cat([samples.images for samples in drawn])
        assert torch.equal(found, sample(*arguments, IMAGES, 1, 5).images)
        seconds = [found.trace.seconds for found in drawn]
        if k == 4:
            first = seconds
        else:  # what both have in common was evaluated once, and its seconds are told again
            assert all(np.array_equal(a[:k], b[:k]) for a, b in zip(seconds, first, strict=True))
            assert not any(np.array_equal(a[k:], b[k:]) for a, b in zip(seconds, first, strict=True))
    assert (starts.hits, starts.misses) == (0, 0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_but_not_the_same(denoisers, precision):
    for name in ("staged", "guided", "decoders"):
        arguments = (denoisers[name], Solver("ddim", 4), NOISE, SHAPE, range(6), 7, 5)
        exact, found = sample(*arguments).images, sample(*arguments, precision=precision).images
        assert found.dtype == torch.float32
        assert 0 < (found - exact).abs().mean() < 0.02 * exact.std()
