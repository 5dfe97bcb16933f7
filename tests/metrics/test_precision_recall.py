import numpy as np
import pytest

from duodiff_pipeline.metrics import blocks
from duodiff_pipeline.metrics.precision_recall import Manifold


def draw(n: int, seed: int, d: int = 5, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, size=(n, d)).astype(np.float32)


def brute_force(balls: np.ndarray, points: np.ndarray) -> float:
    """Equation 1 of the paper, pair by pair, with k = 3."""
    balls, points = balls.astype(float), points.astype(float)
    radii = [np.sort([np.linalg.norm(ball - other) for other in balls])[3] for ball in balls]  # its own 0 comes first
    inside = [
        any(np.linalg.norm(point - ball) <= radius for ball, radius in zip(balls, radii, strict=True))
        for point in points
    ]
    return float(np.mean(inside))


@pytest.mark.parametrize("shift", [0.0, 1.0, 100.0])
def test_shares_by_brute_force(shift):
    real, generated = draw(60, seed=0), draw(45, seed=1, shift=shift)
    assert Manifold(real).share_inside(generated) == brute_force(real, generated)
    assert Manifold(generated).share_inside(real) == brute_force(generated, real)
    assert (0 < brute_force(real, generated) < 1) == (shift < 100)


def test_a_line_written_out():
    """Radii of 0, 1, 2, 3, 10 are 3, 2, 2, 3, 9, so that -3..19 is covered and nothing else."""
    balls = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]])
    manifold = Manifold(balls)
    assert np.sqrt(manifold.squared_radii).tolist() == [3, 2, 2, 3, 9]
    assert manifold.share_inside(np.array([[-3.01], [-3.0], [7.0], [19.0], [19.01]])) == 3 / 5


def test_fidelity_and_variety_stand_apart():
    """A generator of one of two modes is precise and recalls half; one that adds a third mode recalls all."""
    first, second, third = (draw(200, seed, shift=shift) for seed, shift in ((0, 0.0), (1, 50.0), (2, -50.0)))
    real = np.concatenate([first, second])
    half, more = draw(200, seed=3), np.concatenate([draw(200, 4), draw(200, 5, shift=50.0), third])
    precision, recall = Manifold(real).share_inside(half), Manifold(half).share_inside(real)
    assert precision > 0.8
    assert 0.4 < recall <= 0.5
    precision, recall = Manifold(real).share_inside(more), Manifold(more).share_inside(real)
    assert 0.5 < precision < 0.67
    assert recall > 0.8


def test_copies_are_inside_even_where_duplicates_leave_no_radius():
    real = np.repeat(draw(20, seed=0, shift=30.0), 4, axis=0)
    assert Manifold(real).share_inside(real) == 1
    collapsed = np.repeat(draw(1, seed=1), 50, axis=0)
    assert Manifold(collapsed).share_inside(real) == 0
    assert Manifold(collapsed).share_inside(collapsed) == 1


def test_blocks_change_nothing(monkeypatch):
    real, generated = draw(101, seed=0), draw(50, seed=1, shift=0.5)
    at_once = Manifold(real).share_inside(generated)
    for rows in (1, 7, 64):
        monkeypatch.setattr(blocks, "ROWS", rows)
        assert Manifold(real).share_inside(generated) == at_once
    assert 0 < at_once < 1


@pytest.mark.parametrize(
    ("balls", "points", "message"),
    [
        (np.ones((3, 2)), np.ones((1, 2)), "the 3-nearest neighbours of 3 images do not exist"),
        (np.full((5, 2), np.nan), np.ones((1, 2)), "the features of 5 of 5 images are not finite"),
        (np.ones((5, 2)), np.full((4, 2), np.inf), "the features of 4 of 4 images are not finite"),
        (np.ones((5, 2)), np.ones((1, 3)), "points of 3 features lie on no manifold of 2"),
    ],
)
def test_what_has_no_answer_is_refused(balls, points, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Manifold(balls).share_inside(points)
