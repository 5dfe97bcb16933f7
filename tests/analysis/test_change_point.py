"""Constructed exits with a known change point: N images, E evaluations, plateaus at depths 2 and 13."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from duodiff_pipeline.analysis.change_point import MIN_IMAGES, ChangePoint, find_change_point
from duodiff_pipeline.analysis.exit_statistics import ExitPanel

N, E, SHALLOW, DEEP, DRAWS = 100, 25, 2.0, 13.0, 100
Floats = NDArray[np.float64]
Scenario = Callable[[np.random.Generator], tuple[Floats, int]]
Null = Callable[[np.random.Generator], Floats]


def panel(depths_ne: Floats, timesteps: Floats | None = None) -> ExitPanel:
    depths = np.clip(np.round(depths_ne), 0, DEEP).astype(np.int64)
    return ExitPanel(0.07, np.linspace(999, 0, depths.shape[1]) if timesteps is None else timesteps, depths)


def steps(k_n: Floats) -> Floats:
    return np.where(np.arange(E) < np.clip(np.round(k_n), 0, E)[:, None], SHALLOW, DEEP)


def flipped(rng: np.random.Generator, depths_ne: Floats, share: float) -> Floats:
    return np.where(rng.random(depths_ne.shape) < share, SHALLOW + DEEP - depths_ne, depths_ne)


def sharp(rng: np.random.Generator) -> tuple[Floats, int]:
    k = int(rng.integers(1, E))
    return steps(np.full(N, k)) + rng.normal(0, 1.5, (N, E)), k


def gradual(rng: np.random.Generator) -> tuple[Floats, int]:
    centre = rng.uniform(0.25, 0.75) * E
    return steps(rng.normal(centre, 0.12 * E, N)), round(centre)


def skewed(rng: np.random.Generator) -> tuple[Floats, int]:
    start, scale = rng.uniform(0.2, 0.5) * E, 0.12 * E
    return steps(start + rng.exponential(scale, N)), round(start + scale * np.log(2))


def flicker(rng: np.random.Generator) -> tuple[Floats, int]:
    k = int(rng.integers(2, E - 1))
    never = rng.random(N) < 0.05
    return flipped(rng, steps(np.where(never, E, k)), 0.15), k


def gradual_flicker(rng: np.random.Generator) -> tuple[Floats, int]:
    depths, k = gradual(rng)
    return flipped(rng, depths, 0.1), k


def constant(depth: float, noise: float) -> Null:
    return lambda rng: depth + rng.normal(0, noise, (N, E))


def drift(rng: np.random.Generator) -> Floats:
    """Depth rises over the run by one standard deviation of its noise."""
    return 7 + 2 * np.linspace(-0.5, 0.5, E) + rng.normal(0, 2, (N, E))


def wandering(rng: np.random.Generator) -> Floats:
    """Every image's depth wanders slowly on its own: evaluations depend on each other."""
    depths = np.empty((N, E))
    depths[:, 0] = rng.normal(0, 2, N)
    for e in range(1, E):
        depths[:, e] = 0.9 * depths[:, e - 1] + rng.normal(0, 2 * np.sqrt(1 - 0.81), N)
    return 7 + depths


def coin(rng: np.random.Generator) -> Floats:
    return flipped(rng, np.full((N, E), SHALLOW), 0.5)


def rare_flips(rng: np.random.Generator) -> Floats:
    return flipped(rng, np.full((N, E), DEEP), 0.03)


def two_kinds_of_images(rng: np.random.Generator) -> Floats:
    return np.where(rng.random((N, 1)) < 0.5, SHALLOW, DEEP) + np.zeros((N, E))


def both_ways(rng: np.random.Generator) -> Floats:
    """Half of the images step down where the others step up."""
    depths = steps(rng.integers(1, E, N).astype(np.float64))
    return np.where(rng.random((N, 1)) < 0.5, depths, SHALLOW + DEEP - depths)


def interval(change: ChangePoint) -> tuple[int, int]:
    assert change.found, change.message
    assert change.k_low is not None
    assert change.k_high is not None
    return change.k_low, change.k_high


@pytest.mark.parametrize("scenario", [sharp, gradual, skewed, flicker, gradual_flicker])
def test_interval_holds_the_true_change_point(scenario: Scenario) -> None:
    held = 0
    for seed in range(DRAWS):
        depths, truth = scenario(np.random.default_rng(seed))
        change = find_change_point(panel(depths), seed)
        low, high = interval(change)
        assert change.k in range(low, high + 1)
        held += low <= truth <= high
    assert held >= 0.9 * DRAWS


@pytest.mark.parametrize(
    "null",
    [
        constant(7, 2),
        constant(SHALLOW, 0),
        constant(DEEP, 0),
        constant(DEEP, 1),
        drift,
        wandering,
        coin,
        rare_flips,
        two_kinds_of_images,
        both_ways,
    ],
)
def test_no_change_is_found_where_there_is_none(null: Null) -> None:
    found = sum(find_change_point(panel(null(np.random.default_rng(seed))), seed).found for seed in range(DRAWS))
    assert found <= 0.05 * DRAWS


def test_few_images_are_as_seldom_mistaken() -> None:
    found = 0
    for seed in range(2 * DRAWS):
        found += find_change_point(panel(drift(np.random.default_rng(seed))[:16]), seed).found
    assert found <= 0.05 * 2 * DRAWS


def test_interval_of_a_sharp_change_is_at_most_one_evaluation_wide() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        k = int(rng.integers(1, E))
        change = find_change_point(panel(np.tile(steps(np.array([k])), (200, 1)) + rng.normal(0, 1.5, (200, E))), seed)
        low, high = interval(change)
        assert change.k == k
        assert high - low <= 1


def test_interval_narrows_with_images_and_widens_with_the_spread() -> None:
    def width(images: int, spread: float) -> int:
        k_n = np.random.default_rng(0).normal(E / 2, spread, images)
        low, high = interval(find_change_point(panel(steps(k_n)), 0))
        return high - low

    assert width(20, 4) > width(2000, 4)
    assert width(100, 5) > width(100, 1)


def test_what_is_reported() -> None:
    change = find_change_point(panel(steps(np.array([5.0] * 9 + [7.0]))), 0)
    assert change == ChangePoint(
        found=True,
        message=(
            "exits go from depth 2 to 13 after 5 of 25 evaluations (95% interval 5 to 5); "
            "a fixed switch there makes 99.2% of the images' own choices"
        ),
        k=5,
        k_low=5,
        k_high=5,
        timestep_edge=999 - 4.5 * 999 / 24,
        plateau_before=2.0,
        plateau_after=13.0,
        agreement=1 - 2 / (10 * E),
    )


def test_k_is_the_switch_that_agrees_with_most_choices() -> None:
    depths = panel(gradual_flicker(np.random.default_rng(3))[0])
    change = find_change_point(depths, 0)
    shallow = depths.depths < 7.5
    agreement = [(shallow == (np.arange(E) < k)).mean() for k in range(E + 1)]
    assert change.k == int(np.argmax(agreement))
    assert change.agreement == pytest.approx(max(agreement))


def test_a_long_step_counts_for_more_than_a_higher_one_at_the_very_end() -> None:
    depths = np.concatenate([np.full((N, 10), 2.0), np.full((N, 14), 8.0), np.full((N, 1), 13.0)], axis=1)
    assert find_change_point(panel(depths), 0).k == 10


def test_the_other_direction_is_no_switch_and_says_so() -> None:
    change = find_change_point(panel(SHALLOW + DEEP - sharp(np.random.default_rng(0))[0]), 0)
    assert not change.found
    assert "from deep to shallow" in change.message


def test_a_minority_that_changes_suggests_no_switch() -> None:
    change = find_change_point(panel(steps(np.array([12.0] * 45 + [0.0] * 55))), 0)
    assert not change.found
    assert "stay deep" in change.message


def test_evaluations_at_one_timestep_are_not_parted() -> None:
    pairs = np.repeat(np.linspace(999, 0, 13), 2)[:E]  # evaluations 0 and 1 share a timestep, 2 and 3, ...
    change = find_change_point(panel(steps(np.full(N, 7.0)), pairs), 0)
    assert change.k in (6, 8)
    assert change.timestep_edge == (pairs[change.k - 1] + pairs[change.k]) / 2


@pytest.mark.parametrize(
    ("depths", "timesteps", "message"),
    [
        (steps(np.full(MIN_IMAGES - 1, 5.0)), None, "too few"),
        (steps(np.full(N, 5.0)), np.full(E, 500.0), "one timestep"),
    ],
)
def test_where_nothing_can_be_told(depths: Floats, timesteps: Floats | None, message: str) -> None:
    change = find_change_point(panel(depths, timesteps), 0)
    assert not change.found
    assert message in change.message


def test_same_seed_same_answer() -> None:
    depths = panel(gradual(np.random.default_rng(1))[0])
    assert find_change_point(depths, 4) == find_change_point(depths, 4)
