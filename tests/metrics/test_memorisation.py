import math

import numpy as np
import pytest

from duodiff_pipeline.metrics import blocks
from duodiff_pipeline.metrics.extractor import extract_features
from duodiff_pipeline.metrics.intervals import block_interval
from duodiff_pipeline.metrics.memorisation import Nearness, Neighbours, memorisation_interval, share_by_chance


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(n, 64)).astype(np.uint8)


def test_shares_and_flocks_written_out():
    real = Neighbours(train=np.array([[0.0], [10.0]]), held_out=np.array([[4.0], [20.0]]))
    # Nearest: training 0, training 0, held-out 4, held-out 20, and 7 lies between training 10 and held-out 4.
    found = real.nearness(np.array([[-1.0], [1.0], [3.0], [19.0], [7.0]]))
    assert found.share == pytest.approx((1 + 1 + 0 + 0 + 0.5) / 5)
    # 7 is counted to one of the two it ties with: held-out 4, which 3 is nearest to as well.
    assert found.same_nearest == pytest.approx((2 * 1 + 2 * 1) / (5 * 4))


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_copies_held_out_images_and_mixtures(rounding):
    """Copies are found even where features round a little, in the middle of features far from 0."""
    rng = np.random.default_rng(0)
    train, held_out = 30 + rng.normal(size=(500, 16)), 30 + rng.normal(size=(200, 16))
    real = Neighbours(train, held_out)

    def share(images):
        return real.nearness(images * (1 + rounding * rng.normal(size=images.shape))).share

    assert share(train) == 1
    assert share(held_out) == 0
    assert share(np.concatenate([train[:60], held_out[:40]])) == pytest.approx(0.6)


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_an_image_in_both_sets_favours_none(rounding):
    shared = 30 + np.random.default_rng(1).normal(size=(100, 16))
    noise = np.random.default_rng(2).normal(size=(3, *shared.shape)) * rounding
    real = Neighbours(shared * (1 + noise[0]), shared[::-1] * (1 + noise[1][::-1]))
    assert real.nearness(shared * (1 + noise[2])).share == 0.5
    assert real.nearness(shared + 0.5).share == 0.5


def test_levels_give_exact_distances():
    """One level in one pixel decides, however bright the images are."""
    generated = np.full((2, 784), 255, np.uint8)
    one, two = generated.copy(), generated.copy()
    one[:, 0] -= 1
    two[:, 0] -= 2
    assert Neighbours(one, two).nearness(generated).share == 1
    assert Neighbours(two, one).nearness(generated).share == 0


def test_chunks_change_nothing(monkeypatch):
    real, generated = Neighbours(pixels(101, 0), pixels(50, 1)), pixels(40, 2)
    at_once = real.nearness(generated)
    monkeypatch.setattr(blocks, "ROWS", 7)
    assert real.nearness(generated) == at_once
    assert 0 < at_once.share < 1


def test_nearest_by_brute_force():
    train, held_out, generated = pixels(40, 3), pixels(25, 4), pixels(30, 5)

    def nearest(images):
        differences = generated[:, None].astype(int) - images[None].astype(int)
        return (differences**2).sum(axis=2).min(axis=1)

    expected = (nearest(train) < nearest(held_out)).mean()
    assert Neighbours(train, held_out).nearness(generated).share == pytest.approx(expected)


def _third_samples(rng, blocks: int, n: int, d: int, splits: int, spread: float):
    """Intervals over `splits` draws of training and held-out images, the generator being the distribution itself.

    spread < 1: the generated images flock around the middle, where few real images are.
    """
    for _ in range(splits):
        real = Neighbours(rng.normal(size=(200, d)), rng.normal(size=(100, d)))
        yield [real.nearness(spread * rng.normal(size=(n, d))) for _ in range(blocks)]


@pytest.mark.parametrize("spread", [1.0, 0.1])
def test_interval_of_a_generator_that_remembers_nothing_holds_the_expectation(spread):
    """Also where it draws poor images, all of them near to a few real ones, and is luckily near to training ones."""
    rng = np.random.default_rng(6)
    splits = list(_third_samples(rng, blocks=5, n=150, d=20, splits=200, spread=spread))
    p = share_by_chance(200, 100)
    assert p == pytest.approx(2 / 3)
    found = [memorisation_interval(blocks, 200, 100) for blocks in splits]
    assert np.mean([interval.low <= p <= interval.high for interval in found]) >= 0.93
    assert np.mean([interval.low > p for interval in found]) <= 0.04
    blocks_alone = [block_interval([block.share for block in blocks]) for blocks in splits]
    assert np.mean([interval.low > p for interval in blocks_alone]) > 0.08  # what the draw of the split is for


def test_a_tenth_of_copies_is_credible():
    rng = np.random.default_rng(7)
    train, held_out = rng.normal(size=(1200, 20)), rng.normal(size=(600, 20))
    blocks = []
    for _ in range(8):
        images = rng.normal(size=(600, 20))
        images[:60] = rng.permutation(train)[:60]
        blocks.append(Neighbours(train, held_out).nearness(images))
    assert memorisation_interval(blocks, 1200, 600).low > share_by_chance(1200, 600)


def test_interval_written_out():
    """5 blocks of which two images in 20 share their nearest, 60 training and 40 held-out images."""
    shares = [0.5, 0.6, 0.7, 0.8, 0.9]
    found = memorisation_interval([Nearness(share, 0.1) for share in shares], 60, 40)
    split = 0.6 * 0.4 * 100 / 99 * (0.1 - 1 / 100)
    half = 2.7764451051978 * math.sqrt(0.025 / 5 + split)
    assert (found.value, found.low, found.high) == pytest.approx((0.7, 0.7 - half, 1.0))
    assert found.method == "Student t, 95%, 5 seed blocks, and the draw of the held-out images"
    # Fewer images near to the same one than there are real images can only be chance.
    narrow = memorisation_interval([Nearness(share, 0.0) for share in shares], 60, 40)
    alone = block_interval(shares)
    assert (narrow.low, narrow.high) == pytest.approx((alone.low, alone.high))


def test_a_generator_of_one_image_proves_nothing():
    """Whichever real image is nearest, it is a training image two times in three."""
    interval = memorisation_interval([Nearness(1.0, 1.0)] * 5, 200, 100)
    assert interval.low <= share_by_chance(200, 100)


def test_real_digits_are_no_copies_of_digits(classifier, digits):
    """Half of the held-out digits as if generated, the other half held out; then training digits instead."""
    features = {name: extract_features(classifier, getattr(digits, name), 256) for name in ("train", "held_out")}
    levels = {name: getattr(digits, name).flatten(1).numpy() for name in ("train", "held_out")}
    p = share_by_chance(1198, 300)
    for rows in (features, levels):
        real = Neighbours(rows["train"], rows["held_out"][:300])
        assert abs(real.nearness(rows["held_out"][300:]).share - p) < 4 * math.sqrt(p * (1 - p) / 299)
        assert real.nearness(rows["train"][:300]).share == 1


@pytest.mark.parametrize(
    ("generated", "message"),
    [
        (np.zeros((1, 3)), "^the nearest real images of 1 generated one cannot be compared: 2 are needed$"),
        (np.zeros((4, 2)), "dimension"),
        (np.array([[0.0, np.nan, 0.0], [1.0, 2.0, 3.0]]), "NaN"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(generated, message):
    with pytest.raises(ValueError, match=message):
        Neighbours(np.zeros((5, 3)), np.ones((5, 3))).nearness(generated)
