"""Where exits go from shallow to deep: the switch that exit statistics suggest, and how sure it is.

Symbols: N images, E evaluations, k = 0..E a number of evaluations, B bootstrap resamples, C cuts.

The estimand. Image i goes deep after k_i evaluations: 0 where it is deep from the start, E where it never goes deep.
The change point is the population median of k_i. It is also the fixed switch that contradicts the fewest of the
images' own choices, because a median minimises sum_i |k_i - k|. So:

- sharp: all k_i are equal, and that is the change point;
- gradual: the k_i are spread, and the change point is their median;
- flicker: exits that stray from their image's step, and a minority of images without one, do not move it;
- none: exit depth is constant, or drifts by no more than its own spread, or half of the images or more never change.

The estimate takes three steps.

1. Where do all images together change most? A single step fitted to their exit depths by least squares. The depths'
   medians on both sides are the plateaus; an exit nearer to the first is shallow.
2. Is that a step? With 97.5 % confidence it must be higher than `MIN_HEIGHT` standard deviations of the depths on its
   sides. Being different from zero is not enough: with many images the least drift is.
3. Which switch? The k that shares the most choices: sum_{e<k} p_e + sum_{e>=k} (1 - p_e), p_e being the share of
   images that exit shallow at evaluation e.

Confidence comes from a bootstrap over whole images, since the evaluations of one image depend on each other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import CONFIDENCE, percentile_interval, resampled_weights
from .exit_statistics import ExitPanel

# A drift over one standard deviation measures 0.5 of them, a step with a quarter of its exits flipped still 1.15.
MIN_HEIGHT = 0.75
# Fewer images bear no bootstrap.
MIN_IMAGES = 8


@dataclass(frozen=True)
class ChangePoint:
    """The switch that exits under one threshold suggest. Where none is found, only the message says anything.

    k: evaluations before the change, 1..E-1; [k_low, k_high] holds the true one with 95 % confidence.
    timestep_edge: halfway between the timesteps of evaluations k-1 and k.
    plateau_before, plateau_after: median exit depth on the two sides of k, in blocks.
    agreement: share of the (image, evaluation) choices between shallow and deep that a fixed switch at k reproduces.
    """

    found: bool
    message: str
    k: int | None = None
    k_low: int | None = None
    k_high: int | None = None
    timestep_edge: float | None = None
    plateau_before: float | None = None
    plateau_after: float | None = None
    agreement: float | None = None


def find_change_point(panel: ExitPanel, seed: int) -> ChangePoint:
    """The change from shallow to deep exits along the evaluations of one threshold (see the head of this file).

    Evaluations at one timestep are never parted: only cuts at which the timestep falls are considered.
    """
    images, evaluations = panel.depths.shape
    cuts = 1 + np.flatnonzero(np.diff(panel.timesteps) < 0)
    if images < MIN_IMAGES:
        return _none(f"{images} images are too few to tell, {MIN_IMAGES} are needed")
    if not len(cuts):
        return _none("all evaluations stand at one timestep")
    weights_bn = resampled_weights(images, seed, "change point")

    step_nc = _steps(panel.depths, cuts)
    # what a step explains of the sum of squares is its height squared times k (E - k) / E
    fitted = int((step_nc.mean(axis=0) ** 2 * cuts * (evaluations - cuts)).argmax())
    before, after = np.split(panel.depths, [cuts[fitted]], axis=1)
    spread = np.sqrt((before.var() * before.size + after.var() * after.size) / panel.depths.size)
    height_low, height_high = percentile_interval(weights_bn @ step_nc[:, fitted])
    if max(height_low, -height_high) <= MIN_HEIGHT * spread:
        return _none("exit depth takes no step that stands out of its own spread")
    if height_high < 0:
        return _none(f"the step after {cuts[fitted]} of {evaluations} evaluations goes from deep to shallow exits")

    shallow = panel.depths < (np.median(before) + np.median(after)) / 2
    k = int(_best_switch(shallow.mean(axis=0)[None], cuts)[0])
    if k in (0, evaluations):
        return _none(f"half of the images or more stay {'shallow' if k else 'deep'} throughout")

    k_low, k_high = map(int, percentile_interval(_best_switch(weights_bn @ shallow.astype(np.float64), cuts)))
    plateau_before, plateau_after = float(np.median(panel.depths[:, :k])), float(np.median(panel.depths[:, k:]))
    agreement = float((shallow == (np.arange(evaluations) < k)).mean())
    return ChangePoint(
        found=True,
        message=(
            f"exits go from depth {plateau_before:g} to {plateau_after:g} after {k} of {evaluations} evaluations "
            f"({CONFIDENCE:.0%} interval {k_low} to {k_high}); a fixed switch there makes {agreement:.1%} "
            "of the images' own choices"
        ),
        k=k,
        k_low=k_low,
        k_high=k_high,
        timestep_edge=float(panel.timesteps[k - 1] + panel.timesteps[k]) / 2,
        plateau_before=plateau_before,
        plateau_after=plateau_after,
        agreement=agreement,
    )


def _none(reason: str) -> ChangePoint:
    return ChangePoint(found=False, message=f"no switch suggested: {reason}")


def _steps(depths_ne: NDArray[np.int64], cuts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Every image's step at every cut, (N, C): mean depth after it minus mean depth before it."""
    evaluations = depths_ne.shape[1]
    sums = np.cumsum(depths_ne, axis=1, dtype=np.float64)
    before = sums[:, cuts - 1]
    steps: NDArray[np.float64] = (sums[:, -1:] - before) / (evaluations - cuts) - before / cuts
    return steps


def _best_switch(share_shallow_be: NDArray[np.float64], cuts: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row of shares (B, E), the k among 0, the cuts and E that shares the most choices, (B,)."""
    rows, evaluations = share_shallow_be.shape
    ks = np.concatenate([[0], cuts, [evaluations]])
    # relative to k = 0, every evaluation served shallow gains the choices p_e and loses 1 - p_e
    gained = np.concatenate([np.zeros((rows, 1)), np.cumsum(2 * share_shallow_be - 1, axis=1)], axis=1)
    best: NDArray[np.int64] = ks[gained[:, ks].argmax(axis=1)]
    return best
