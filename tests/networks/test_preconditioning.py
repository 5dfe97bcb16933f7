"""EDM's preconditioning against Karras et al. 2022 (arXiv 2206.00364), table 1, written out in their coordinates."""

from dataclasses import replace

import pytest
import torch

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.networks.preconditioning import (
    SIGMA_DATA,
    EDMCoefficients,
    edm_weight,
    network_input,
    output_to_noise,
)
from duodiff_pipeline.networks.uvit import UViTConfig

NOISE = NoiseSchedule("cosine", 1000)
CONFIG = UViTConfig(8, 1, 4, 16, 3, 2, predicts="edm", noise=NOISE)
TIMESTEPS = torch.tensor([0, 1, 250, 600, 998, 999])


def levels() -> tuple[torch.Tensor, torch.Tensor]:
    abar = torch.from_numpy(NOISE.abar)[TIMESTEPS]
    return abar, ((1 - abar) / abar).sqrt()


def test_coefficients_written_out() -> None:
    for sigma in (0.002, 0.5, 2.51, 80.0):
        found = EDMCoefficients.at(torch.tensor([sigma], dtype=torch.float64))
        assert found.skip.item() == pytest.approx(0.25 / (sigma**2 + 0.25))
        assert found.out.item() == pytest.approx(sigma * 0.5 / (sigma**2 + 0.25) ** 0.5)
        assert found.input.item() == pytest.approx((sigma**2 + 0.25) ** -0.5)
        assert found.noise.item() == pytest.approx(torch.log(torch.tensor(sigma)).item() / 4)


def test_noise_is_that_of_the_denoised_image_in_the_papers_coordinates() -> None:
    generator = torch.Generator().manual_seed(0)
    x_n, output = (torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    abar, sigma = (level[:, None, None, None] for level in levels())
    x = x_n / abar.sqrt()  # the paper's: the image plus sigma times the noise
    seen, times = network_input(CONFIG, x_n, TIMESTEPS)
    torch.testing.assert_close(seen, x / (sigma**2 + SIGMA_DATA**2).sqrt())
    torch.testing.assert_close(times.double(), sigma.flatten().log() / 4, atol=1e-6, rtol=1e-6)
    denoised = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2) * x
    denoised = denoised + sigma * SIGMA_DATA / (sigma**2 + SIGMA_DATA**2).sqrt() * output
    torch.testing.assert_close(output_to_noise(CONFIG, output, x_n, TIMESTEPS), (x - denoised) / sigma)


def test_input_has_unit_variance_where_the_data_has_theirs() -> None:
    generator = torch.Generator().manual_seed(1)
    x0 = SIGMA_DATA * torch.randn(6, 1, 64, 64, generator=generator)
    x_n = NOISE.add_noise(x0, torch.randn(x0.shape, generator=generator), TIMESTEPS)
    seen, _ = network_input(CONFIG, x_n, TIMESTEPS)
    assert seen.flatten(1).std(dim=1).sub(1).abs().max() < 0.05


def test_the_loss_weighs_errors_of_the_layers_alike() -> None:
    """weight * (error of the noise)^2 = (error of F)^2: lambda c_out^2 = 1, the paper's equation 8."""
    generator = torch.Generator().manual_seed(2)
    x_n, output = (torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    error = output_to_noise(CONFIG, output + 0.1, x_n, TIMESTEPS) - output_to_noise(CONFIG, output, x_n, TIMESTEPS)
    weighted = edm_weight(NOISE, TIMESTEPS)[:, None, None, None] * error**2
    torch.testing.assert_close(weighted, torch.full_like(weighted, 0.01), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("predicts", ["noise", "image"])
def test_others_see_the_image_as_it_is(predicts) -> None:
    x_n = torch.randn(6, 1, 8, 8)
    seen, times = network_input(replace(CONFIG, predicts=predicts), x_n, TIMESTEPS)
    assert seen is x_n
    assert times is TIMESTEPS


def test_an_output_of_nothing_is_the_best_linear_guess() -> None:
    """F = 0 gives c_skip x, the posterior mean of Gaussian data of the paper's variance."""
    x_n = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    abar, _ = (level[:, None, None, None] for level in levels())
    mean = abar.sqrt() * SIGMA_DATA**2 / (abar * SIGMA_DATA**2 + 1 - abar) * x_n
    eps = (x_n - abar.sqrt() * mean) / (1 - abar).sqrt()
    torch.testing.assert_close(output_to_noise(CONFIG, torch.zeros_like(x_n), x_n, TIMESTEPS), eps)
