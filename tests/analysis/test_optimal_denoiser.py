import numpy as np
import pytest

from duodiff_pipeline.analysis.optimal_denoiser import DataRange, Floats, OptimalDenoiser
from duodiff_pipeline.diffusion.noise import NoiseSchedule

NOISE = NoiseSchedule("linear", 1000)


def images(count: int, dimensions: int = 16, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(-1, 1, (count, dimensions))


def one_shot(y_nd: Floats, x_bd: Floats, abar: float) -> Floats:
    """The softmax of section 3, written out over the whole training set at once."""
    logits = -((x_bd[:, None] - np.sqrt(abar) * y_nd) ** 2).sum(axis=2) / (2 * (1 - abar))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    mean: Floats = weights @ y_nd / weights.sum(axis=1, keepdims=True)
    return mean


@pytest.mark.parametrize("timestep", [0, 50, 300, 700, 999])
@pytest.mark.parametrize("chunk_images", [1, 7, 100, 1000])
def test_streaming_equals_one_shot(timestep: int, chunk_images: int) -> None:
    y = images(101)
    x = np.random.default_rng(1).normal(0, 1, (9, 16))
    denoiser = OptimalDenoiser(y, NOISE, chunk_images)
    streamed = denoiser.posterior_mean(x, np.full(9, timestep))
    np.testing.assert_allclose(streamed, one_shot(y, x, NOISE.abar[timestep]), atol=1e-10)


def test_every_query_has_its_own_timestep() -> None:
    y, timesteps = images(50), np.array([10, 400, 950])
    x = np.random.default_rng(1).normal(0, 1, (3, 16))
    together = OptimalDenoiser(y, NOISE).predict_eps(x, timesteps)
    for row, timestep in enumerate(timesteps):
        alone = OptimalDenoiser(y, NOISE).predict_eps(x[row : row + 1], timesteps[row : row + 1])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-10)
        abar = NOISE.abar[timestep]
        mean = one_shot(y, x[row : row + 1], abar)[0]
        np.testing.assert_allclose(together[row], (x[row] - np.sqrt(abar) * mean) / np.sqrt(1 - abar), atol=1e-10)


def z_scores(y_nd: Floats, x_bd: Floats, timestep: int, closed_form_bd: Floats) -> Floats:
    """Error of the empirical posterior mean in its own standard errors (self-normalised importance sampling)."""
    abar = NOISE.abar[timestep]
    mean = OptimalDenoiser(y_nd, NOISE).posterior_mean(x_bd, np.full(len(x_bd), timestep))
    logits = -((x_bd[:, None] - np.sqrt(abar) * y_nd) ** 2).sum(axis=2) / (2 * (1 - abar))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    error = np.sqrt((weights[:, :, None] ** 2 * (y_nd - mean[:, None]) ** 2).sum(axis=1))
    assert error.max() < 0.02  # else the comparison would say little
    z: Floats = (mean - closed_form_bd) / error
    return z


@pytest.mark.parametrize("timestep", [100, 300, 600, 900])
def test_gaussian_data_meet_the_closed_form(timestep: int) -> None:
    rng = np.random.default_rng(2)
    m, v, abar = np.array([0.2, -0.3]), 0.15**2, NOISE.abar[timestep]
    x0, y = np.split(m + np.sqrt(v) * rng.standard_normal((50_040, 2)), [40])
    x = np.sqrt(abar) * x0 + np.sqrt(1 - abar) * rng.standard_normal((40, 2))
    closed_form = m + np.sqrt(abar) * v / (abar * v + 1 - abar) * (x - np.sqrt(abar) * m)
    z = z_scores(y, x, timestep, closed_form)
    assert np.abs(z).max() < 4.5


@pytest.mark.parametrize("timestep", [200, 500, 800])
def test_gaussian_mixture_meets_the_closed_form(timestep: int) -> None:
    rng = np.random.default_rng(3)
    centres, v, abar = np.array([[-0.5, 0.3], [0.5, -0.3]]), 0.1**2, NOISE.abar[timestep]
    x0, y = np.split(centres[rng.integers(2, size=50_040)] + np.sqrt(v) * rng.standard_normal((50_040, 2)), [40])
    x = np.sqrt(abar) * x0 + np.sqrt(1 - abar) * rng.standard_normal((40, 2))
    total = abar * v + 1 - abar
    offset = x[:, None] - np.sqrt(abar) * centres
    belongs = np.exp(-(offset**2).sum(axis=2) / (2 * total))
    belongs /= belongs.sum(axis=1, keepdims=True)
    means = centres + np.sqrt(abar) * v / total * offset
    z = z_scores(y, x, timestep, (belongs[:, :, None] * means).sum(axis=1))
    assert np.abs(z).max() < 4.5


def test_limits() -> None:
    """Near the data the denoiser knows the image, hence the true noise; in pure noise only the mean image."""
    y, eps = images(200, dimensions=64), np.random.default_rng(4).standard_normal((200, 64))
    denoiser = OptimalDenoiser(y, NOISE)
    np.testing.assert_allclose(denoiser.predict_from(y, eps, np.zeros(200, dtype=np.int64)), eps, atol=1e-6)
    flat = denoiser.posterior_mean(eps, np.full(200, 999))
    assert np.abs(flat - y.mean(axis=0)).max() < 0.03
    np.testing.assert_allclose(denoiser.predict_eps(eps, np.full(200, 999)), eps, atol=0.02)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (images(10).astype(np.float16), "float32"),
        (images(10).astype(np.int64), "uint8"),
        (images(10).reshape(10, 4, 4), "N, d"),
        (np.empty((0, 4)), "N, d"),
        (images(10) * 255, "scaled"),
        (np.full((2, 2), np.nan), "scaled"),
    ],
)
def test_other_images_are_refused(wrong: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimalDenoiser(wrong, NOISE)


@pytest.mark.parametrize(("data_range", "low"), [("centred", -1), ("unit", 0)])
def test_pixels_are_scaled_chunk_by_chunk_to_the_data_range(data_range: DataRange, low: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 16), dtype=np.uint8)
    x, timesteps = np.random.default_rng(1).normal(0, 1, (4, 16)), np.array([10, 300, 600, 990])
    scaled = low + pixels / 255 * (1 - low)
    found = OptimalDenoiser(pixels, NOISE, 7, data_range).posterior_mean(x, timesteps)
    np.testing.assert_allclose(found, OptimalDenoiser(scaled, NOISE, 7, data_range).posterior_mean(x, timesteps))
    with pytest.raises(ValueError, match=r"scaled to \[0, 1\]"):
        OptimalDenoiser(images(10), NOISE, data_range="unit")
