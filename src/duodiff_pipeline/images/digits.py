"""scikit-learn's digits: 1,797 grey images of 8x8 pixels with 17 levels, embedded in the library."""

import torch
from torch import Tensor


def read_digits() -> tuple[Tensor, Tensor]:
    """Images (1797, 1, 8, 8) uint8, levels 0..16 spread over 0..255, and labels (1797,) int64."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    levels = torch.from_numpy(images).view(-1, 1, 8, 8)
    return (levels * (255 / 16)).round().to(torch.uint8), torch.from_numpy(labels).long()


def stratified_split(labels: Tensor, held_out_share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (int64) of the training and the held-out images; every class in the same proportion in both."""
    from sklearn.model_selection import train_test_split

    indices = torch.arange(len(labels)).numpy()
    train, held_out = train_test_split(indices, test_size=held_out_share, stratify=labels.numpy(), random_state=seed)
    return torch.from_numpy(train).sort().values, torch.from_numpy(held_out).sort().values
