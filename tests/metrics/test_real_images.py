import pytest

from duodiff_pipeline.metrics.extractor import extract_features
from duodiff_pipeline.metrics.frechet import GaussianStatistics
from duodiff_pipeline.metrics.kernel_distance import KernelSample, kernel_distance
from duodiff_pipeline.metrics.measure import FEATURE_BATCH_IMAGES, Measured
from duodiff_pipeline.metrics.precision_recall import Manifold
from duodiff_pipeline.metrics.real_images import RealImages
from duodiff_pipeline.metrics.reference import ReferenceStatistics


class MeanOfRows:
    """Features (N, 8) that forget where in its row a pixel stands; counts its calls."""

    name, sha256 = "mean_of_rows", "a" * 64

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images_u8):
        self.calls += 1
        return images_u8.float().mean(dim=(1, 3))


def measured(extractor, images) -> Measured:
    return Measured(images, extract_features(extractor, images, FEATURE_BATCH_IMAGES), 0.0, None)


def reference(split, images) -> ReferenceStatistics:
    features = extract_features(MeanOfRows(), images, FEATURE_BATCH_IMAGES)
    return ReferenceStatistics(GaussianStatistics.from_features(features), "mean_of_rows", "a" * 64, "b" * 64, split)


def test_kid_and_memorisation_by_features_and_pixels(digits):
    """Mirrored training images are copies to features that cannot see the mirror, and none to pixels."""
    extractor = MeanOfRows()
    generated = measured(extractor, digits.train[:300].flip(-1))
    found = RealImages(extractor, reference("held_out", digits.held_out), digits.train, digits.held_out).judge(
        generated
    )
    held_out = extract_features(extractor, digits.held_out, FEATURE_BATCH_IMAGES)
    assert found["kid"] == kernel_distance(KernelSample(generated.features), KernelSample(held_out))
    assert found["memorisation_features"] == pytest.approx(1, abs=0.01)  # some means stand in both sets
    assert found["memorisation_pixels"] < 0.8
    assert found["same_nearest_features"] < found["same_nearest_pixels"]


def test_features_of_real_images_are_extracted_once_and_only_if_asked_for(digits):
    extractor = MeanOfRows()
    generated = measured(extractor, digits.train[:10])
    held_out = digits.held_out[:100]
    real = RealImages(extractor, reference("held_out", held_out), digits.train[:100], held_out)
    before = extractor.calls
    first = real.judge(generated)
    assert extractor.calls == before + 2
    assert real.judge(generated) == first
    assert extractor.calls == before + 2
    assert first["memorisation_pixels"] == first["memorisation_features"] == 1


@pytest.mark.parametrize(("split", "sample"), [("held_out", "held_out"), ("train", "train"), ("published", "train")])
def test_the_images_of_the_reference_are_what_pairs_are_made_with(digits, split, sample):
    """Of published statistics there are none, and training images stand for them."""
    generated = measured(MeanOfRows(), digits.train[:50].flip(-2))
    against = getattr(digits, sample)
    real = RealImages(MeanOfRows(), reference(split, against), digits.train, digits.held_out)
    found = real.judge(generated, ("precision", "fid_infinity"))
    features = extract_features(MeanOfRows(), against, FEATURE_BATCH_IMAGES)
    assert found["kid"] == kernel_distance(KernelSample(generated.features), KernelSample(features))
    assert found["precision"] == Manifold(features).share_inside(generated.features)
    assert list(found)[:3] == ["kid", "precision", "fid_infinity"]
