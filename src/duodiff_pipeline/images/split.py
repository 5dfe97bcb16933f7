"""The split into training and held-out images, for sources that bring none."""

import math

import torch
from torch import Tensor

from ..errors import InputError


def stratified_split(labels: Tensor, held_out_share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (int64) of the training and the held-out images; every class in the same proportion in both.

    labels: (N,) int64, at least 2 of each class. Raises InputError where a part would have fewer images than there are
    classes, or fewer than 2, without which there is no covariance.
    """
    from sklearn.model_selection import train_test_split

    images, classes = len(labels), len(set(labels.tolist()))
    held_out_images = math.ceil(held_out_share * images)  # as scikit-learn rounds
    if min(held_out_images, images - held_out_images) < max(classes, 2):
        raise InputError(
            f"held_out_share {held_out_share:g} splits {images} images into {images - held_out_images} and "
            f"{held_out_images}: both parts need {max(classes, 2)} at least, one of each class and 2 in all"
        )
    indices = torch.arange(images).numpy()
    train, held_out = train_test_split(indices, test_size=held_out_share, stratify=labels.numpy(), random_state=seed)
    return torch.from_numpy(train).sort().values, torch.from_numpy(held_out).sort().values
