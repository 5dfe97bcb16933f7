import numpy as np
import pytest
import torch
from scipy import stats

from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.images.pixels import from_uint8
from duodiff_pipeline.training.batches import StageBatches, StepBatches

IMAGES = torch.arange(30 * 16).view(30, 1, 4, 4).remainder(256).to(torch.uint8)
IMAGES[:, 0, 0, 0] = torch.arange(30)  # says which image it is
EXAMPLES = ImagePack(IMAGES, torch.zeros(30, dtype=torch.int64), "", "train", "")


def batches(**changes) -> StepBatches:
    options = {"examples": EXAMPLES, "timesteps": (0, 1000), "batch_images": 7, "steps": 40, "seed": 0}
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


def stage_batches(weights="uniform", edges=(60.5, 20.0), steps=4000, **changes) -> StageBatches:
    return StageBatches(EXAMPLES, edges, 100, weights, changes.get("batch_images", 7), steps, changes.get("seed", 0))


def test_every_batch_lies_in_one_stage_and_edges_part_as_schedules_do(noise):
    of = stage_batches()
    assert of.ranges == [(61, 100), (20, 61), (0, 20)]
    seen = {stage: set[int]() for stage in range(3)}
    for step in range(600):
        batch = of[step]
        low, high = of.ranges[of.stage(step)]
        assert (low <= batch.timesteps).all()
        assert (batch.timesteps < high).all()
        seen[of.stage(step)] |= set(batch.timesteps.tolist())
    assert [seen[stage] for stage in range(3)] == [set(range(low, high)) for low, high in of.ranges]


@pytest.mark.parametrize("weights", ["uniform", "stages"])
def test_over_many_batches_timesteps_have_the_wanted_density(weights):
    """By chi square, of the stages and, one timestep a batch being independent of the others', of the timesteps."""
    of = stage_batches(weights, batch_images=1)
    share = {"uniform": [0.39, 0.41, 0.2], "stages": [1 / 3] * 3}[weights]
    assert of.shares.tolist() == pytest.approx(share)
    stages = np.bincount([of.stage(step) for step in range(4000)], minlength=3)
    assert stats.chisquare(stages, 4000 * np.array(share)).pvalue > 1e-3
    timesteps = np.bincount([int(of[step].timesteps) for step in range(4000)], minlength=100)
    of_stages = [np.full(high - low, s / (high - low)) for s, (low, high) in zip(share, of.ranges, strict=True)]
    density = np.concatenate(of_stages[::-1])
    assert stats.chisquare(timesteps, 4000 * density).pvalue > 1e-3
    if weights == "uniform":
        np.testing.assert_allclose(density, 0.01)


def test_published_weights_have_the_published_densities():
    """0.75, 1.77 and 0.90 of uniform with the edges of CIFAR-10, from data to noise (arXiv 2312.09181's code)."""
    of = StageBatches(EXAMPLES, (631.0, 442.0), 1000, "stages", 1, 1, 0)
    counts = np.array([high - low for low, high in of.ranges])
    np.testing.assert_allclose((of.shares / (counts / 1000))[::-1], [0.75, 1.77, 0.90], atol=0.007)


def test_one_stage_is_no_stages():
    of = StageBatches(EXAMPLES, (), 1000, "uniform", 7, 40, 0)
    for step in (0, 3, 39):
        for a, b in zip(of[step][:3], batches()[step][:3], strict=True):
            assert torch.equal(a, b)


def test_a_stage_batch_is_a_function_of_seed_and_step():
    for step in (0, 17, 3999):
        for a, b in zip(stage_batches()[step][:3], stage_batches()[step][:3], strict=True):
            assert torch.equal(a, b)
    drawn = [[stage_batches(seed=seed).stage(step) for step in range(50)] for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_a_stage_without_a_timestep_is_refused():
    with pytest.raises(ValueError, match="leave a stage without a timestep"):
        stage_batches(edges=(20.5, 20.1))


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
