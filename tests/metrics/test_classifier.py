import re

import numpy as np
import pytest
import torch

from duodiff_pipeline.metrics.classifier import ClassifierConfig, FeatureClassifier, accuracy, train_classifier
from duodiff_pipeline.metrics.extractor import extract_features

DIGITS = ClassifierConfig(channels=1, image_size=8, classes=10)


def random_images(n: int, config: ClassifierConfig) -> torch.Tensor:
    shape = (n, config.channels, config.image_size, config.image_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def new_classifier(config: ClassifierConfig, seed: int = 0) -> FeatureClassifier:
    classifier = FeatureClassifier(config)
    classifier.init_weights(torch.Generator().manual_seed(seed))
    return classifier


def test_reads_held_out_digits(classifier, digits):
    assert accuracy(classifier, digits.held_out, digits.held_out_labels, batch_images=256) >= 0.97


def test_the_share_that_is_named_as_asked_is_that_of_the_largest_logits():
    classifier = new_classifier(ClassifierConfig(channels=1, image_size=8, classes=3, features=3))
    with torch.no_grad():
        classifier.head.weight.copy_(torch.eye(3))
        classifier.head.bias.zero_()
    features = np.array([[3, 1, 0], [0, 2, 1], [0, 1, 5], [4, 0, 0]], np.float32)
    assert classifier.share_named(features, torch.tensor([0, 1, 2, 2])) == 0.75


@pytest.mark.parametrize(("channels", "image_size", "features"), [(1, 8, 64), (1, 28, 48), (3, 32, 16), (1, 4, 8)])
def test_fits_every_image_size(channels, image_size, features):
    config = ClassifierConfig(channels, image_size, classes=7, features=features, width=8)
    classifier, images = new_classifier(config), random_images(5, config)
    assert classifier(images).shape == (5, features)
    assert classifier(images).dtype == torch.float32
    assert classifier.logits(images).shape == (5, 7)


def test_features_are_the_penultimate_layer(classifier, digits):
    images = digits.held_out[:16]
    assert torch.equal(classifier.head(classifier(images)), classifier.logits(images))


def test_training_depends_on_the_seed_alone(digits):
    def train(seed):
        return train_classifier(digits.train, digits.train_labels, DIGITS, 3, 16, 1e-3, seed)

    torch.manual_seed(1)
    first = train(0)
    torch.manual_seed(2)
    assert train(0).sha256 == first.sha256
    assert train(1).sha256 != first.sha256


def test_features_do_not_depend_on_company(classifier, digits):
    images = digits.held_out[:200]
    all_at_once = extract_features(classifier, images, batch_images=64)
    assert all_at_once.shape == (200, 64)
    assert all_at_once.dtype == np.float32
    for n in (1, 2, 63, 64, 65, 199):
        assert np.array_equal(extract_features(classifier, images[:n], batch_images=64), all_at_once[:n])
    with torch.inference_mode():
        assert np.allclose(all_at_once, classifier(images), atol=1e-4)


def test_accuracy_counts_the_right_answers(classifier, digits):
    images = digits.held_out[:10]
    right = classifier.logits(images).argmax(dim=1)
    three_wrong = torch.cat([(right[:3] + 1) % 10, right[3:]])
    assert accuracy(classifier, images, right, batch_images=4) == 1
    assert accuracy(classifier, images, three_wrong, batch_images=4) == pytest.approx(0.7)


def test_sha256_tells_weights_and_architecture_apart():
    classifier = new_classifier(DIGITS)
    before = classifier.sha256
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert before == new_classifier(DIGITS).sha256
    # Sides 7 and 8 both halve to 4: the same weights, another function of other images.
    assert before != new_classifier(ClassifierConfig(channels=1, image_size=7, classes=10)).sha256
    with torch.no_grad():
        classifier.head.bias[3] += 1e-6
    assert before != classifier.sha256


def test_saved_classifier_is_the_same_classifier(classifier, digits, tmp_path):
    classifier.save(tmp_path / "a.safetensors")
    loaded = FeatureClassifier.load(tmp_path / "a.safetensors")
    assert loaded.config == classifier.config
    assert (loaded.name, loaded.sha256) == ("classifier_1x8x8_64", classifier.sha256)
    assert torch.equal(loaded(digits.held_out), classifier(digits.held_out))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.zeros(2, 1, 8, 8),
            "this classifier takes torch.uint8 images of shape (1, 8, 8), not torch.float32 of shape (1, 8, 8)",
        ),
        (
            torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
            "this classifier takes torch.uint8 images of shape (1, 8, 8), not torch.uint8 of shape (3, 8, 8)",
        ),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FeatureClassifier(DIGITS)(images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), "4 images have 3 labels"),
        (torch.tensor([0, 3, 10, 1]), "labels 0..10 are not all within 0..9"),
        (torch.tensor([0, 3, -1, 1]), "labels -1..3 are not all within 0..9"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train_classifier(random_images(4, DIGITS), labels, DIGITS, 1, 2, 1e-3, seed=0)


def test_no_images_have_no_features(classifier):
    with pytest.raises(ValueError, match=r"^there are no images to extract features from$"):
        extract_features(classifier, random_images(0, DIGITS), batch_images=8)
