import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from duodiff_pipeline.metrics import blocks, frechet
from duodiff_pipeline.metrics.extractor import extract_features
from duodiff_pipeline.metrics.frechet import GaussianStatistics, distance_of_features, frechet_distance


def draw(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Correlated features (n, d) with a mean and covariance of the seed's own."""
    rng = np.random.default_rng(seed)
    return scale * (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d))


def test_statistics_are_mean_and_unbiased_covariance():
    features = draw(50, 7, seed=0).astype(np.float32)
    statistics = GaussianStatistics.from_features(features)
    assert statistics.mu.dtype == statistics.sigma.dtype == np.float64
    assert statistics.n_images == 50
    assert statistics.n_features == 7
    assert np.allclose(statistics.mu, features.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert np.allclose(statistics.sigma, np.cov(features.T.astype(np.float64)), rtol=1e-12)


def test_closed_form_of_diagonal_gaussians():
    rng = np.random.default_rng(1)
    mu_a, mu_b, var_a, var_b = rng.normal(size=9), rng.normal(size=9), rng.uniform(size=9), rng.uniform(size=9)
    var_a[0] = var_b[1] = 0
    a, b = GaussianStatistics(mu_a, np.diag(var_a), 100), GaussianStatistics(mu_b, np.diag(var_b), 100)
    expected = ((mu_a - mu_b) ** 2 + (np.sqrt(var_a) - np.sqrt(var_b)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_definition_with_a_general_matrix_root():
    a = GaussianStatistics.from_features(draw(500, 12, seed=2))
    b = GaussianStatistics.from_features(draw(400, 12, seed=3))
    root = scipy.linalg.sqrtm(a.sigma @ b.sigma)
    expected = ((a.mu - b.mu) ** 2).sum() + np.trace(a.sigma + b.sigma - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n_a", "n_b"), [(20, 300), (300, 20), (20, 15), (2, 2)])
def test_fewer_images_than_features(n_a, n_b):
    x, y = draw(n_a, 64, seed=4), draw(n_b, 64, seed=5)
    a, b = GaussianStatistics.from_features(x), GaussianStatistics.from_features(y)
    # tr (S_b^1/2 S_a S_b^1/2)^1/2 is the nuclear norm of X Y^T of the centred features: no root of a singular matrix.
    cross = (x - a.mu) @ (y - b.mu).T / np.sqrt((n_a - 1) * (n_b - 1))
    expected = ((a.mu - b.mu) ** 2).sum() + np.trace(a.sigma + b.sigma) - 2 * np.linalg.norm(cross, "nuc")
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "scale"), [(500, 1.0), (500, 1e-6), (500, 1e6), (20, 1.0)])
def test_zero_to_itself_and_symmetric(n, scale):
    a = GaussianStatistics.from_features(draw(n, 64, seed=6, scale=scale))
    b = GaussianStatistics.from_features(draw(n, 64, seed=7, scale=scale))
    assert abs(frechet_distance(a, a)) < 1e-9 * np.trace(a.sigma)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_images_all_alike():
    """A collapsed generator has a covariance of zero: what is left is |mu_a - mu_b|^2 + tr(S_b)."""
    a, b = GaussianStatistics.from_features(np.ones((10, 5))), GaussianStatistics.from_features(draw(50, 5, seed=8))
    assert frechet_distance(a, b) == pytest.approx(((1 - b.mu) ** 2).sum() + np.trace(b.sigma), rel=1e-12)
    assert frechet_distance(a, a) == 0


def test_agrees_with_torchmetrics(classifier, digits):
    class Extractor(nn.Module):
        num_features = 64

        def forward(self, images_u8):
            return classifier(images_u8)

    noisy = digits.train.float() + 40 * torch.randn(digits.train.shape, generator=torch.Generator().manual_seed(0))
    noisy = noisy.clamp(0, 255).to(torch.uint8)
    theirs = FrechetInceptionDistance(feature=Extractor(), input_img_size=(1, 8, 8)).set_dtype(torch.float64)
    with torch.inference_mode():
        theirs.update(digits.held_out, real=True)
        theirs.update(noisy, real=False)
    ours = frechet_distance(
        GaussianStatistics.from_features(extract_features(classifier, noisy, batch_images=256)),
        GaussianStatistics.from_features(extract_features(classifier, digits.held_out, batch_images=256)),
    )
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-6)


@pytest.mark.parametrize("n", [100, 4])
def test_the_factor_is_computed_once_and_its_square_is_the_covariance(n, monkeypatch):
    """Also of a singular covariance, of fewer images than features."""
    statistics = GaussianStatistics.from_features(draw(n, 6, seed=9))
    factor = statistics.times_factor(np.eye(6))
    assert np.allclose(factor @ factor.T, statistics.sigma, rtol=1e-10)
    monkeypatch.setattr(np.linalg, "cholesky", lambda _: pytest.fail("computed again"))
    x = draw(5, 6, seed=10)
    assert np.allclose(statistics.times_factor(x), x @ factor)


@pytest.mark.parametrize(("n", "n_reference"), [(2, 300), (40, 300), (40, 20), (63, 64), (64, 300), (200, 20)])
def test_the_distance_of_features_is_that_of_their_gaussian(n, n_reference):
    features, reference = draw(n, 64, seed=11), GaussianStatistics.from_features(draw(n_reference, 64, seed=12))
    expected = frechet_distance(GaussianStatistics.from_features(features), reference)
    assert distance_of_features(features, reference) == pytest.approx(expected, rel=1e-9)


def test_sums_over_blocks_are_those_of_all(monkeypatch):
    """Also where the mean is large against the spread, in float32 as extractors give it."""
    features = (1000 + draw(101, 7, seed=13)).astype(np.float32)
    monkeypatch.setattr(blocks, "ROWS", 10)
    monkeypatch.setattr(frechet, "ROWS", 10)
    found = GaussianStatistics.from_features(features)
    assert np.allclose(found.mu, features.astype(np.float64).mean(axis=0), rtol=1e-14)
    assert np.allclose(found.sigma, np.cov(features.T.astype(np.float64)), rtol=1e-11)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((1, 4)), "a covariance needs at least 2 images, not 1"),
        (np.array([[1, np.nan], [np.inf, 2], [3, 4]]), "the features of 2 of 3 images are not finite"),
    ],
)
def test_features_without_statistics_are_refused(features, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        GaussianStatistics.from_features(features)
    reference = GaussianStatistics.from_features(draw(50, features.shape[1], seed=0))
    with pytest.raises(ValueError, match=f"^{message}$"):
        distance_of_features(features, reference)


def test_other_number_of_features_is_refused():
    a, b = (GaussianStatistics.from_features(draw(10, d, seed=0)) for d in (3, 4))
    with pytest.raises(ValueError, match=r"^Gaussians of 3 and 4 features have no distance$"):
        frechet_distance(a, b)
    with pytest.raises(ValueError, match=r"^Gaussians of 3 and 4 features have no distance$"):
        distance_of_features(draw(2, 3, seed=0), b)
