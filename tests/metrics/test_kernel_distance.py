import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance

from duodiff_pipeline.metrics import blocks
from duodiff_pipeline.metrics.kernel_distance import KernelSample, kernel_distance


def distance(x, y) -> float:
    return kernel_distance(KernelSample.from_features(np.asarray(x)), KernelSample.from_features(np.asarray(y)))


def draw(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, size=(n, d))


def test_closed_form_written_out():
    """D = 2. Among x, 1 * 2 + 0 * 1 = 2 gives (2/2 + 1)^3 = 8, among y (0/2 + 1)^3 = 1; across, products 0, 2, 3, 4."""
    x, y = np.array([[1.0, 0.0], [2.0, 1.0]]), np.array([[0.0, 2.0], [3.0, 0.0]])
    across = [(product / 2 + 1) ** 3 for product in (1 * 0 + 0 * 2, 1 * 3 + 0 * 0, 2 * 0 + 1 * 2, 2 * 3 + 1 * 0)]
    assert distance(x, y) == pytest.approx(8 + 1 - 2 * sum(across) / 4, rel=1e-14)


def test_definition_by_pairs_of_unequal_sets():
    x, y = draw(7, 3, seed=0), draw(5, 3, seed=1, shift=1.0)

    def k(u, v):
        return (u @ v / 3 + 1) ** 3

    within_x = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    within_y = sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / (5 * 4)
    across = sum(k(u, v) for u in x for v in y) / 35
    assert distance(x, y) == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-12)


def test_agrees_with_torchmetrics_in_one_subset_of_everything(classifier, digits):
    class Extractor(nn.Module):
        num_features = 64

        def forward(self, images_u8):
            return classifier(images_u8)

    real, images = digits.held_out, digits.train[:599].flip(-1)
    theirs = KernelInceptionDistance(feature=Extractor(), subsets=1, subset_size=599)
    theirs.set_dtype(torch.float64)
    with torch.inference_mode():
        theirs.update(real, real=True)
        theirs.update(images, real=False)
        ours = distance(classifier(images).numpy(), classifier(real).numpy())
    assert ours == pytest.approx(theirs.compute()[0].item(), rel=1e-4)  # they compute kernels in float32


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 40)])
def test_zero_on_average_for_two_samples_of_one_distribution(n, m):
    values = [distance(draw(n, 4, seed), draw(m, 4, 10_000 + seed)) for seed in range(4000)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert np.mean([value < 0 for value in values]) > 0.2


def test_does_not_depend_on_the_number_of_images_on_average():
    """What the Fréchet distance cannot: 10 images tell as much on average as 200 do."""
    few = [distance(draw(10, 4, seed), draw(200, 4, 5000 + seed, shift=0.5)) for seed in range(1500)]
    many = [distance(draw(200, 4, 9000 + seed), draw(200, 4, 5000 + seed, shift=0.5)) for seed in range(200)]
    error = np.hypot(np.std(few) / np.sqrt(len(few)), np.std(many) / np.sqrt(len(many)))
    assert np.mean(many) > 10 * error
    assert abs(np.mean(few) - np.mean(many)) < 3 * error


def test_chunks_change_nothing(monkeypatch):
    x, y = draw(50, 6, seed=2), draw(31, 6, seed=3, shift=0.3)
    at_once = distance(x, y)
    for rows in (1, 7, 31):
        monkeypatch.setattr(blocks, "ROWS", rows)
        assert distance(x, y) == pytest.approx(at_once, rel=1e-12)


def test_the_mean_within_is_computed_once():
    sample = KernelSample.from_features(draw(20, 3, seed=4))
    assert sample.within is sample.within


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((1, 4)), "a kernel distance without bias needs at least 2 images, not 1"),
        (np.array([[1, np.nan], [np.inf, 2], [3, 4]]), "the features of 2 of 3 images are not finite"),
    ],
)
def test_features_without_a_distance_are_refused(features, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        KernelSample.from_features(features)


def test_other_number_of_features_is_refused():
    with pytest.raises(ValueError, match=r"^samples of 3 and 4 features have no distance$"):
        distance(np.ones((5, 3)), np.ones((5, 4)))
