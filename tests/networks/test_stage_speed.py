"""A switch saves the seconds that its multiply-accumulates promise, at the size of the papers' CIFAR-10 networks.

`make stage-speed` prints what is measured: one micro-batch of 64 images, weights at random, every DuoDiff taking
turns with the deep network. Small networks spend more of their time outside matrix products; the report of an
experiment shows how far their measured speed-ups stay behind.
"""

import sys
from statistics import median

import pytest
import torch

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.networks.staged import StagedDenoiser
from duodiff_pipeline.networks.uvit import UViT, UViTConfig

BATCH, STEPS, ROUNDS = 64, 2, 5
NOISE = NoiseSchedule("linear")


@pytest.mark.slow
def test_speed_up_is_the_ratio_of_macs(capsys):
    generator = torch.Generator().manual_seed(0)
    networks = {}
    for name, depth in {"shallow": 3, "deep": 13}.items():
        networks[name] = UViT(UViTConfig(32, 3, patch=2, width=512, depth=depth, heads=8, noise=NOISE))
        networks[name].init_weights(generator)
    solver = Solver("ddim", STEPS)
    grid = solver.grid(NOISE)

    def run(k: int) -> tuple[float, float]:
        """Seconds and GMACs an image of a switch."""
        schedule = StageSchedule.from_switch(k, grid, ("shallow", "deep"), NOISE).serving(grid)
        denoiser = StagedDenoiser(schedule, {name: networks[name].eval() for name in schedule.serves})
        trace = sample(denoiser, solver, NOISE, (3, 32, 32), range(BATCH), 0, BATCH).trace
        return float(trace.seconds.sum()), trace.gmacs_per_image

    run(1)
    rounds = [[run(k) for k in range(STEPS + 1)] for _ in range(ROUNDS)]
    lines = []
    for k in range(1, STEPS + 1):
        promised = rounds[0][0][1] / rounds[0][k][1]
        measured = median(turn[0][0] / turn[k][0] for turn in rounds)
        lines.append((k, promised, measured))
    shown = [f"  k = {k} of {STEPS}: GMACs {p:.2f}, seconds {m:.2f}, {m / p:.2f}" for k, p, m in lines]
    with capsys.disabled():
        sys.stdout.write("\n".join(["\nspeed-up of DuoDiff over the deep network:", *shown, ""]))
    for k, promised, measured in lines:
        assert measured == pytest.approx(promised, rel=0.05), k
