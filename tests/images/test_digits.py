import numpy as np
import torch
from sklearn.datasets import load_digits

from duodiff_pipeline.images.digits import read_digits


def test_digits_are_all_there_with_their_levels_spread_over_a_byte():
    images, labels = read_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert len(images.unique()) == 17
    theirs = load_digits()
    assert labels.tolist() == theirs.target.tolist()
    assert np.abs(images[:, 0].numpy() - theirs.images * 255 / 16).max() <= 0.5
