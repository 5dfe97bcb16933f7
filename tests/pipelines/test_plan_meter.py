"""Blocks of images that trials measure: what is kept, what is measured again, and that neither changes a FID."""

import numpy as np
import pytest
import torch

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sharding import Sampler
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.diffusion.starts import SharedStarts
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.metrics.frechet import GaussianStatistics
from duodiff_pipeline.metrics.measure import Meter
from duodiff_pipeline.metrics.reference import ReferenceStatistics
from duodiff_pipeline.networks.plans import NetworkBank, SamplingPlan
from duodiff_pipeline.pipelines.switch_search.plan_meter import PlanMeter
from duodiff_pipeline.workdir import WorkDir

NOISE = NoiseSchedule()
SOLVER = Solver("dpmsolver++", 4)
SEED = 3


class Quarters:
    """Mean brightness of the four quarters of an image; counts the images it has seen."""

    name, sha256 = "quarters", "0" * 64

    def __init__(self):
        self.seen = 0

    def __call__(self, images_u8):
        self.seen += len(images_u8)
        return torch.nn.functional.adaptive_avg_pool2d(images_u8.float(), 2).flatten(1)


EXAMPLES = ImagePack(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "", "held_out", "")


@pytest.fixture
def bank(make_uvit, make_stored) -> NetworkBank:
    return NetworkBank({name: make_stored(make_uvit(i, depth=i)) for i, name in ((1, "shallow"), (3, "deep"))})


@pytest.fixture
def meter() -> Meter:
    features = np.random.default_rng(0).normal(100, 20, (50, 4))
    reference = ReferenceStatistics(GaussianStatistics.from_features(features), "quarters", "0" * 64, "0" * 64, "train")
    return Meter(Quarters(), reference, NOISE, EXAMPLES, 22, Sampler("cpu", 4))


def switched(k: int) -> SamplingPlan:
    grid = SOLVER.grid(NOISE)
    return SamplingPlan("", SOLVER, StageSchedule.from_switch(k, grid, ("shallow", "deep"), NOISE).serving(grid))


def plan_meter(meter, bank, tmp_path, **bound) -> PlanMeter:
    work = WorkDir(tmp_path, "search", {}, {}, ["search"], shared=True)
    return PlanMeter(meter, bank, work, SEED, meter.rungs((0.25, 0.5)), SharedStarts(2**20), **bound)


def features_kept(tmp_path) -> int:
    return len(list(tmp_path.rglob("*.safetensors")))


def test_rungs_are_whole_micro_batches_and_all(meter):
    assert meter.rungs((0.25, 0.5)) == (8, 12, 22)
    assert meter.rungs(()) == (22,)
    assert meter.rungs((0.01, 0.02, 0.99)) == (4, 22)


@pytest.mark.parametrize("k", [0, 1, 2, 4])
def test_a_fid_in_blocks_is_that_of_all_images_at_once_bit_for_bit(meter, bank, tmp_path, k):
    plan, blocks = switched(k), plan_meter(meter, bank, tmp_path)
    whole = meter.measure(bank.denoiser(plan), plan.solver, SEED)
    found = [blocks.fid(plan, n_images) for n_images in blocks.rungs]
    assert found == [meter.fid(whole.features[:n_images]) for n_images in blocks.rungs]
    assert found[-1] == whole.fid
    assert len(set(found)) == 3


def test_what_was_given_up_goes_on_where_it_was_and_what_is_measured_stays(meter, bank, tmp_path):
    plan = switched(1)
    first = plan_meter(meter, bank, tmp_path).fid(plan, 8)
    assert features_kept(tmp_path) == 1
    seen = meter.extractor.seen
    later = plan_meter(meter, bank, tmp_path)  # of another process
    assert later.fid(plan, 8) == first
    assert meter.extractor.seen == seen
    whole = later.fid(plan, 22)
    assert features_kept(tmp_path) == 0  # it goes no further
    seen = meter.extractor.seen
    assert plan_meter(meter, bank, tmp_path).fid(plan, 22) == whole
    assert meter.extractor.seen == seen


def test_features_beyond_the_bound_are_forgotten_and_measured_again(meter, bank, tmp_path):
    plans = [switched(k) for k in (1, 2, 3)]
    bounded = plan_meter(meter, bank, tmp_path / "bounded", features_bytes=600)
    unbounded = plan_meter(meter, bank, tmp_path / "unbounded")
    for n_images in bounded.rungs:
        for plan in plans:
            assert bounded.fid(plan, n_images) == unbounded.fid(plan, n_images)
            assert features_kept(tmp_path / "bounded") <= 2
