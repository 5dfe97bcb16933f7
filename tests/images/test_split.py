import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.digits import read_digits
from duodiff_pipeline.images.split import stratified_split


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


@pytest.mark.parametrize(
    ("counts", "share", "message"),
    [
        ([2, 2, 2], 0.2, "held_out_share 0.2 splits 6 images into 4 and 2: both parts need 3 at least"),
        ([4, 4], 0.9, "held_out_share 0.9 splits 8 images into 0 and 8: both parts need 2 at least"),
        ([1], 0.5, "held_out_share 0.5 splits 1 images into 0 and 1: both parts need 2 at least"),
        ([6], 0.1, "held_out_share 0.1 splits 6 images into 5 and 1: both parts need 2 at least"),
    ],
)
def test_too_few_images_for_a_split_are_refused(counts, share, message):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    with pytest.raises(InputError) as refusal:
        stratified_split(labels, share, seed=0)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(("counts", "share"), [([2, 2, 2], 0.5), ([4], 0.5), ([9, 2], 0.2), ([2, 90], 0.1)])
def test_few_images_that_suffice_are_split(counts, share):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    train, held_out = stratified_split(labels, share, seed=0)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(labels)))
    assert set(labels[train].tolist()) == set(range(len(counts)))
