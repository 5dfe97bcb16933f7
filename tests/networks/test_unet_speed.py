"""What a training step of the U-Net gains by its own FIR filter, at the size of conf/fashion_multistage.

`make unet-speed` prints what is measured: steps with the filter and with diffusers' in turns, the median ratio of the
processor's seconds on one thread.
"""

import sys
import time
from functools import partial
from statistics import median

import pytest
import torch
from diffusers.models.downsampling import downsample_2d
from diffusers.models.upsampling import upsample_2d

from duodiff_pipeline.networks.fir import TAPS, FirDown, FirUp
from duodiff_pipeline.networks.unet import StageUNet, UNet, UNetConfig

BATCH, ROUNDS = 32, 9


def with_the_filter_of_diffusers(network: UNet) -> UNet:
    for module in network.modules():
        if isinstance(getattr(module, "upsample", None), FirUp):
            del module.upsample
            module.upsample = partial(upsample_2d, kernel=TAPS)
        if isinstance(getattr(module, "downsample", None), FirDown):
            del module.downsample
            module.downsample = partial(downsample_2d, kernel=TAPS)
    return network


@pytest.mark.slow
def test_a_training_step_is_faster_than_with_the_filter_of_diffusers(capsys) -> None:
    torch.set_num_threads(1)
    config = UNetConfig(14, 1, 16, (16,), (1, 2), 2, (7,))
    networks = [UNet(config), with_the_filter_of_diffusers(UNet(config))]
    for network in networks:
        network.init_weights(torch.Generator().manual_seed(0))
    x = torch.randn(BATCH, 1, 14, 14, generator=torch.Generator().manual_seed(1))
    timesteps = torch.full((BATCH,), 500)

    def seconds(part: StageUNet) -> float:
        started = time.process_time()
        (part(x, timesteps) - x).square().mean().backward()
        return time.process_time() - started

    (ours,), (theirs,) = (network.stages for network in networks)
    torch.testing.assert_close(ours(x, timesteps), theirs(x, timesteps))
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    ratio = median(other / own for own, other in pairs)
    with capsys.disabled():
        own, other = (1e3 * median(each) for each in zip(*pairs, strict=True))
        sys.stdout.write(f"\na step without the optimiser: {own:.0f} ms, {other:.0f} ms with diffusers' filter\n")
    assert ratio > 1.2
