import numpy as np
import torch
from sklearn.datasets import load_digits

from duodiff_pipeline.images.digits import read_digits, stratified_split


def test_digits_are_all_there_with_their_levels_spread_over_a_byte():
    images, labels = read_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert len(images.unique()) == 17
    theirs = load_digits()
    assert labels.tolist() == theirs.target.tolist()
    assert np.abs(images[:, 0].numpy() - theirs.images * 255 / 16).max() <= 0.5


def test_split_is_disjoint_complete_and_two_to_one_in_every_class():
    _, labels = read_digits()
    train, held_out = stratified_split(labels, 1 / 3, seed=0)
    assert (len(train), len(held_out)) == (1198, 599)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(1797))
    assert train.tolist() == sorted(train.tolist())
    for digit in range(10):
        there = int((labels == digit).sum())
        assert abs(int((labels[held_out] == digit).sum()) - there / 3) <= 1


def test_split_is_a_function_of_the_seed():
    _, labels = read_digits()
    first, again, other = (stratified_split(labels, 0.3333, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
