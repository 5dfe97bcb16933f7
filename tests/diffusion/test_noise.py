import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError

KINDS = ["linear", "cosine"]


@pytest.mark.parametrize(
    ("n", "abar", "noise_std", "snr"),
    [
        (500, "0.0778", "0.960", "0.084"),
        (600, "0.0256", "0.987", "0.026"),
        (700, "6.87e-3", "0.9966", "6.9e-3"),
        (900, "2.7e-4", "0.9999", "2.7e-4"),
        (999, "4.04e-5", "1.0000", "4.0e-5"),
    ],
)
def test_linear_schedule_has_the_published_values(n, abar, noise_std, snr):
    found = float(NoiseSchedule().abar[n])
    for value, printed in ((found, abar), (np.sqrt(1 - found), noise_std), (found / (1 - found), snr)):
        digits, _, exponent = printed.partition("e")
        assert f"{value / 10 ** int(exponent or 0):.{len(digits.split('.')[1])}f}" == digits


def test_linear_schedule_is_the_product_of_one_minus_beta():
    product, expected = 1.0, []
    for n in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * n / 999)
        expected.append(product)
    np.testing.assert_allclose(NoiseSchedule().abar, expected, rtol=1e-12)


def test_cosine_schedule_is_the_squared_cosine_until_beta_is_capped():
    schedule = NoiseSchedule("cosine", 1000)
    u = (np.arange(1000) + 1) / 1000
    squared = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.abar[:-1], squared[:-1], rtol=1e-9)
    assert schedule.betas[-1] == 0.999
    assert schedule.abar[-1] == pytest.approx(squared[-2] * 0.001)


@pytest.mark.parametrize(("kind", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_schedule_equals_that_of_diffusers(kind, theirs):
    reference = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(NoiseSchedule(kind).abar[:-1], reference[:-1], rtol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timesteps", [50, 250, 1000, 4000])
def test_log_snr_falls_throughout_and_ends_in_noise(kind, timesteps):
    schedule = NoiseSchedule(kind, timesteps)
    np.testing.assert_allclose(schedule.log_snr, np.log(schedule.abar / (1 - schedule.abar)), rtol=1e-9, atol=1e-12)
    assert (np.diff(schedule.log_snr) < 0).all()
    assert schedule.abar[0] > 0.99
    assert schedule.abar[-1] < 1e-4


@pytest.mark.parametrize("timesteps", [2, 10, 20])
def test_a_linear_schedule_too_short_to_stay_a_schedule_is_refused(timesteps):
    with pytest.raises(InputError, match="20"):
        NoiseSchedule("linear", timesteps)
    assert np.isfinite(NoiseSchedule("linear", 21).log_snr).all()
    assert np.isfinite(NoiseSchedule("cosine", timesteps).log_snr).all()


@pytest.mark.parametrize("kind", KINDS)
def test_abar_at_whole_timesteps_is_the_table(kind):
    schedule = NoiseSchedule(kind)
    found = schedule.abar_at(torch.arange(1000))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, schedule.abar, rtol=1e-10)


def test_abar_between_timesteps_interpolates_log_snr(noise):
    for n, share in ((0, 0.5), (400, 0.25), (998, 0.9)):
        low, high = (np.log(noise.abar[m] / (1 - noise.abar[m])) for m in (n, n + 1))
        snr = np.exp((1 - share) * low + share * high)
        (found,) = noise.abar_at(torch.tensor([n + share], dtype=torch.float64))
        assert float(found) == pytest.approx(snr / (1 + snr), rel=1e-12)
        assert noise.abar[n + 1] < found < noise.abar[n]


def test_add_noise_mixes_every_image_at_its_own_timestep(noise):
    x0, eps = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    noisy = noise.add_noise(x0, eps, torch.tensor([0, 400, 999]))
    assert noisy.dtype == torch.float32
    for i, n in enumerate((0, 400, 999)):
        expected = np.sqrt(noise.abar[n]) * x0[i].double() + np.sqrt(1 - noise.abar[n]) * eps[i].double()
        torch.testing.assert_close(noisy[i].double(), expected, rtol=0, atol=1e-6)
