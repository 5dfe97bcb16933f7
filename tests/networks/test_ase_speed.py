"""Blocks that an image does not use are not run for it when a network is fine-tuned for an exit schedule.

`make ase-speed` prints what that saves: seconds of the processor on one thread for a training step, forward and
backward, against the same step with all blocks run for all images; the two take turns, and the median of their ratios
is taken. At the size of Fashion-MNIST.
"""

import sys
import time
from statistics import median

import pytest
import torch

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.networks.dit import DiT, DiTConfig
from duodiff_pipeline.networks.exit_schedule import TABLES, ExitSchedule
from duodiff_pipeline.networks.uvit import UViT, UViTConfig

BATCH, ROUNDS = 64, 9
SHAPE = {"image_size": 28, "channels": 1, "patch": 4, "width": 96, "depth": 9, "heads": 2}
NOISE = NoiseSchedule()


def run_everything(network, x, timesteps, depths):
    """All blocks for all images, of which each takes what its depth leaves: what ASE's public code does."""
    uses = [(depths >= needed)[:, None, None] for needed in network.needed_depths]
    if isinstance(network, UViT):
        tokens, skips, half = network.embed(x, timesteps), [], network.depth // 2
        for i, block in enumerate(network.blocks):
            if i > half:
                tokens = block(tokens, skips.pop(), 0)
            tokens = torch.where(uses[i], block(tokens), tokens)
            if i < half:
                skips.append(tokens)
        return network.read_out(tokens, x, timesteps)
    blocks = [block.forward for block in network.blocks]
    for block, used, run in zip(network.blocks, uses, blocks, strict=True):
        block.forward = lambda tokens, c, used=used, run=run: torch.where(used, run(tokens, c), tokens)
    try:
        return network(x, timesteps)
    finally:
        for block in network.blocks:
            del block.forward


def make(kind: str) -> UViT | DiT:
    network = UViT(UViTConfig(**SHAPE)) if kind == "uvit" else DiT(DiTConfig(**SHAPE))
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    return network


def a_step(network, table: str):
    """Two ways to make one, of the same images at timesteps evenly spread."""
    schedule = ExitSchedule.named(table, network.exit_depths, NOISE)
    timesteps = torch.arange(BATCH) * NOISE.timesteps // BATCH
    x = torch.randn(BATCH, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    depths = schedule.depth_at(timesteps)
    predict = {"shrinking": network.forward_to, "everything": lambda *step: run_everything(network, *step)}

    def step(which: str) -> torch.Tensor:
        network.zero_grad()
        loss = predict[which](x, timesteps, depths).square().mean()
        loss.backward()
        return loss.detach()

    return step, sum(map(network.macs_at, depths.tolist())) / (BATCH * network.macs)


@pytest.mark.parametrize("kind", ["uvit", "dit"])
def test_both_ways_make_the_same_step(kind):
    network = make(kind)
    step, _ = a_step(network, "heavy")
    loss = step("shrinking")
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    torch.testing.assert_close(step("everything"), loss)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uvit", "dit"])
def test_a_step_takes_the_seconds_of_the_blocks_that_run(kind, capsys):
    network, shown = make(kind), []
    for table in sorted(TABLES):
        step, macs = a_step(network, table)
        ratios = []
        for _ in range(ROUNDS):
            seconds = {}
            for which in ("everything", "shrinking"):
                started = time.process_time()
                step(which)
                seconds[which] = time.process_time() - started
            ratios.append(seconds["shrinking"] / seconds["everything"])
        shown.append((table, macs, median(ratios)))
    with capsys.disabled():
        lines = [f"  {table:6} MACs {macs:4.0%}, seconds {taken:4.0%}" for table, macs, taken in shown]
        sys.stdout.write("\n".join([f"\n{kind}: a training step, of running everything", *lines, ""]))
    for table, macs, taken in shown:
        assert taken == pytest.approx(macs, abs=0.15), table
