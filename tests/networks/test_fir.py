"""The FIR filter against diffusers', whose numbers it must have, values and gradients."""

import pytest
import torch
from diffusers.models.downsampling import FirDownsample2D, downsample_2d
from diffusers.models.upsampling import upsample_2d

from duodiff_pipeline.networks.fir import TAPS, FirDown, FirDownConvolution, FirUp


def both_ways(function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What it makes of x, and the gradient of a weighted sum of that."""
    x = x.clone().requires_grad_()
    y = function(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 14, 14), (3, 5, 4, 6)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(FirUp(), lambda x: upsample_2d(x, TAPS)), (FirDown(), lambda x: downsample_2d(x, TAPS))],
    ids=["up", "down"],
)
def test_it_is_the_reference_s(ours, theirs, shape) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for own, other in zip(both_ways(ours, x), both_ways(theirs, x), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_the_filtered_convolution_is_the_reference_s() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 8, generator=generator)
    ours, theirs = FirDownConvolution(3, 5), FirDownsample2D(3, 5, use_conv=True)
    theirs.Conv2d_0.load_state_dict(ours.convolution.state_dict())
    for own, other in zip(both_ways(ours, x), both_ways(theirs, x), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_up_written_out() -> None:
    """One bright pixel: the outer product of the taps, scaled so that what is constant stays so."""
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 1
    taps = torch.tensor(TAPS) / 4
    wanted = torch.zeros(8, 8)
    wanted[1:5, 1:5] = torch.outer(taps, taps)
    torch.testing.assert_close(FirUp()(x)[0, 0], wanted)
    assert FirUp()(torch.ones(1, 1, 6, 6))[0, 0, 2:-2, 2:-2].unique().tolist() == [1.0]


def test_it_adds_nothing_to_a_network_file() -> None:
    assert not FirUp().state_dict()
    assert set(FirDownConvolution(1, 4).state_dict()) == {"convolution.weight", "convolution.bias"}
