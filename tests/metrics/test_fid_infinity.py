import numpy as np
import pytest

from duodiff_pipeline.metrics.fid_infinity import FEWEST_IMAGES, fid_infinity, infinity_warnings
from duodiff_pipeline.metrics.frechet import GaussianStatistics, distance_of_features, frechet_distance

D = 8
REFERENCE = GaussianStatistics(np.zeros(D), np.eye(D), None)


def draw(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1.2, size=(n, D)).astype(np.float32)


def test_intercept_of_the_line_over_one_over_n_written_out():
    features = draw(122, seed=0)  # two images are in no third, two in no quarter
    sizes = np.array([122, 61, 40, 30])
    means = [
        np.mean([distance_of_features(features[i : i + size], REFERENCE) for i in range(0, size * parts, size)])
        for parts, size in zip((1, 2, 3, 4), sizes, strict=True)
    ]
    design = np.stack([np.ones(4), 1 / sizes], axis=1)
    expected = np.linalg.lstsq(design, np.array(means), rcond=None)[0][0]
    assert fid_infinity(features, REFERENCE) == pytest.approx(expected, rel=1e-9)


def test_on_average_the_distance_of_the_true_gaussians_at_any_n():
    """Where the distance of n images itself is far too large, and the more so the fewer they are."""
    truth = frechet_distance(GaussianStatistics(np.full(D, 0.3), 1.44 * np.eye(D), None), REFERENCE)
    bias = {}
    for n in (100, 400):
        samples = [draw(n, seed) for seed in range(150)]
        plain, extrapolated = (
            np.array([measure(features, REFERENCE) for features in samples])
            for measure in (distance_of_features, fid_infinity)
        )
        bias[n] = plain.mean() - truth
        assert bias[n] > 5 * abs(extrapolated.mean() - truth)
        assert abs(extrapolated.mean() - truth) < 4 * extrapolated.std() / np.sqrt(150)
    assert bias[100] == pytest.approx(4 * bias[400], rel=0.25)


def test_too_few_images():
    with pytest.raises(ValueError, match=r"^an extrapolation to infinitely many images needs at least 8, not 7$"):
        fid_infinity(draw(FEWEST_IMAGES - 1, seed=0), REFERENCE)
    assert np.isfinite(fid_infinity(draw(FEWEST_IMAGES, seed=0), REFERENCE))


def test_quarters_of_fewer_images_than_features_leave_a_warning():
    assert infinity_warnings(4 * 64, 64) == ()
    assert infinity_warnings(599, 2048) == (
        "parts of 149 generated images for 2048 features: the extrapolation goes too far",
    )
