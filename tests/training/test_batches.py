import numpy as np
import pytest
import torch
from scipy import stats

from duodiff_pipeline.images.pixels import from_uint8
from duodiff_pipeline.training.batches import StepBatches

IMAGES = torch.arange(30 * 16).view(30, 1, 4, 4).remainder(256).to(torch.uint8)
IMAGES[:, 0, 0, 0] = torch.arange(30)  # says which image it is


def batches(**changes) -> StepBatches:
    options = {"images_nchw": IMAGES, "timesteps": (0, 1000), "batch_images": 7, "steps": 40, "seed": 0}
    return StepBatches(**{**options, **changes})


def which(batch) -> list[int]:
    return ((batch.x0[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_every_epoch_has_every_image_once_in_an_order_of_its_own():
    of = batches()
    assert len(of) == 40
    slots = [i for step in range(40) for i in which(of[step])]
    epochs = [slots[start : start + 30] for start in range(0, 270, 30)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 9


def test_a_batch_larger_than_the_data_goes_through_it_more_than_once():
    drawn = which(batches(batch_images=75)[0])
    assert sorted(drawn) == sorted([*range(30), *range(30), *drawn[60:]])
    assert len(set(drawn[60:])) == 15


def test_a_batch_is_a_function_of_seed_and_step_whatever_was_drawn_before():
    one_by_one = batches()
    forward = [one_by_one[step] for step in range(40)]
    for step in (39, 0, 17, 3):
        for a, b in zip(batches()[step][:3], forward[step][:3], strict=True):
            assert torch.equal(a, b)
    assert len({batch.eps.numpy().tobytes() for batch in forward}) == 40
    assert len({tuple(batch.timesteps.tolist()) for batch in forward}) == 40


def test_seeds_differ_in_order_timesteps_and_noise():
    a, b = batches(seed=0)[5], batches(seed=1)[5]
    assert which(a) != which(b)
    assert a.timesteps.tolist() != b.timesteps.tolist()
    assert not torch.equal(a.eps, b.eps)


def test_images_come_as_the_networks_see_them():
    batch = batches()[3]
    assert torch.equal(batch.x0, from_uint8(IMAGES)[which(batch)])
    assert (batch.x0.dtype, batch.eps.dtype, batch.timesteps.dtype) == (torch.float32, torch.float32, torch.int64)


def test_timesteps_are_uniform_over_the_whole_schedule():
    of = batches(timesteps=(0, 50), batch_images=500)
    drawn = torch.cat([of[step].timesteps for step in range(40)]).numpy()
    assert stats.chisquare(np.bincount(drawn, minlength=50)).pvalue > 1e-3
    assert (drawn.min(), drawn.max()) == (0, 49)


def test_noise_is_standard_normal():
    of = batches(batch_images=100)
    drawn = torch.cat([of[step].eps.flatten() for step in range(10)]).numpy()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3


def test_flip_mirrors_about_half_of_the_images_and_changes_nothing_else():
    plain, flipped = batches(batch_images=200), batches(batch_images=200, flip=True)
    mirrored = 0
    for step in range(10):
        a, b = plain[step], flipped[step]
        assert torch.equal(a.eps, b.eps)
        assert torch.equal(a.timesteps, b.timesteps)
        for before, after in zip(a.x0, b.x0, strict=True):
            assert torch.equal(after, before) or torch.equal(after, before.flip(-1))
            mirrored += not torch.equal(after, before)
    assert stats.binomtest(mirrored, 2000, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("flip", [False, True])
def test_the_images_handed_in_stay_as_they_are(flip):
    before = IMAGES.clone()
    batches(flip=flip)[0].x0.zero_()
    assert torch.equal(IMAGES, before)
    assert which(batches(flip=False)[0]) != [0] * 7


def test_timesteps_of_a_stage_are_uniform_over_it_alone():
    drawn = torch.cat(
        [batch.timesteps for batch in map(batches(timesteps=(40, 50), steps=400).__getitem__, range(400))]
    )
    counts = torch.bincount(drawn, minlength=100)
    assert counts[40:50].sum() == len(drawn)
    assert stats.chisquare(counts[40:50]).pvalue > 0.01


def labelled(**changes) -> StepBatches:
    """Images of five classes, the sixth of them stands for none."""
    return batches(**{"labels": torch.arange(30) % 5, "null_label": 5, "steps": 300, "batch_images": 20, **changes})


def test_batches_have_no_labels_unless_they_are_asked_for():
    assert batches()[0].labels is None


def test_labels_are_those_of_the_images_or_dropped_at_the_share_asked_for():
    of, dropped = labelled(label_dropout=0.15), 0
    reached = set()
    for step in range(300):
        batch = of[step]
        true = torch.tensor(which(batch)) % 5
        kept = batch.labels == true
        assert (batch.labels[~kept] == 5).all()
        dropped += int((~kept).sum())
        reached |= set(batch.labels.tolist())
    assert reached == {0, 1, 2, 3, 4, 5}
    assert stats.binomtest(dropped, 6000, 0.15).pvalue > 1e-3


def test_without_dropout_every_label_stays_and_the_null_class_is_not_meant():
    drawn = torch.cat([labelled()[step].labels for step in range(30)])
    assert torch.bincount(drawn).tolist() == [120] * 5


def test_all_classes_lose_their_labels_alike():
    of, lost = labelled(label_dropout=0.5), torch.zeros(5)
    for step in range(300):
        batch = of[step]
        lost += torch.bincount((torch.tensor(which(batch)) % 5)[batch.labels == 5], minlength=5)
    assert stats.chisquare(lost).pvalue > 1e-3


def test_dropout_is_a_function_of_seed_step_and_slot_and_changes_nothing_else():
    plain, dropping, other = labelled(), labelled(label_dropout=0.4), labelled(label_dropout=0.4, seed=1)
    for step in (7, 0, 150):
        assert torch.equal(dropping[step].labels, labelled(label_dropout=0.4)[step].labels)
        for a, b in zip(plain[step][:3], dropping[step][:3], strict=True):
            assert torch.equal(a, b)
    masks = [(of[step].labels == 5).tolist() for of in (dropping, other) for step in (7, 8)]
    assert all(a != b for i, a in enumerate(masks) for b in masks[:i])
    more = labelled(label_dropout=0.6)[7].labels == 5
    assert (more >= (dropping[7].labels == 5)).all()  # who is dropped at 0.4 is dropped at 0.6
