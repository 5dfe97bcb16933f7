from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from duodiff_pipeline.metrics.classifier import ClassifierConfig, FeatureClassifier, train_classifier


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits as uint8 (N, 1, 8, 8), split 2:1 and stratified: 1,198 and 599 images."""

    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


@pytest.fixture(scope="session")
def digits() -> Digits:
    bunch = load_digits()
    images = torch.tensor(np.rint(bunch.images * 255 / 16).astype(np.uint8))[:, None]
    labels = torch.tensor(bunch.target)
    train, held_out = train_test_split(np.arange(len(labels)), test_size=1 / 3, stratify=labels, random_state=0)
    return Digits(images[train], labels[train], images[held_out], labels[held_out])


@pytest.fixture(scope="session")
def classifier(digits: Digits) -> FeatureClassifier:
    config = ClassifierConfig(channels=1, image_size=8, classes=10)
    return train_classifier(
        digits.train, digits.train_labels, config, steps=600, batch_images=64, learning_rate=1e-3, seed=0
    )
