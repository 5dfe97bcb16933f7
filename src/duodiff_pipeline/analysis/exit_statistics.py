"""At which depth an adaptive denoiser reads out its prediction, at every evaluation of every image.

The exit table is what sampling leaves behind, one row an evaluation of one image:

    threshold    float, uncertainty below which an image exits
    image        int, index of the image
    evaluation   int, 0..E-1 in sampling order: 0 is the noisiest
    timestep     float, never rising from one evaluation to the next
    exit_depth   int, blocks executed, 0..L; L (`full_depth`) is the whole network, less is an early exit

The statistics are those of DuoDiff's exit figures and tables (duodiff, `indices_by_timestep`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

EXIT_COLUMNS = ("threshold", "image", "evaluation", "timestep", "exit_depth")


@dataclass(frozen=True, eq=False)
class ExitPanel:
    """The exit table of one threshold as an array.

    timesteps: (E,) float64, never rising.
    depths: (N, E) int64, exit depth of image i at evaluation e.
    """

    threshold: float
    timesteps: NDArray[np.float64]
    depths: NDArray[np.int64]


def exit_panels(table: pd.DataFrame) -> list[ExitPanel]:
    """The exit table as one panel a threshold, thresholds rising.

    Raises ValueError where a column or a cell is missing, an image lacks an evaluation or has it twice, the images of
    one threshold stand at different timesteps, timesteps rise, or an exit depth is not a whole number >= 0.
    """
    missing = [column for column in EXIT_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"the exit table lacks the columns {missing}")
    if table.empty or table[list(EXIT_COLUMNS)].isna().any(axis=None):
        raise ValueError("the exit table is empty or has empty cells")
    return list(_panels(table))


def _panels(table: pd.DataFrame) -> Iterator[ExitPanel]:
    for threshold in np.unique(table["threshold"].to_numpy(np.float64)):
        rows = table[table["threshold"] == threshold].sort_values(["image", "evaluation"])
        images, evaluations = rows["image"].nunique(), rows["evaluation"].nunique()
        expected = np.tile(np.arange(evaluations), images)
        if not np.array_equal(rows["evaluation"].to_numpy(), expected):
            raise ValueError(f"threshold {threshold}: every image needs evaluations 0..{evaluations - 1}, each once")
        timesteps = rows["timestep"].to_numpy(np.float64).reshape(images, evaluations)
        if not (timesteps == timesteps[0]).all() or not (np.diff(timesteps[0]) <= 0).all():
            raise ValueError(f"threshold {threshold}: timesteps must be the same for all images and never rise")
        depths = rows["exit_depth"].to_numpy(np.float64).reshape(images, evaluations)
        if not ((depths >= 0) & (depths == np.floor(depths))).all():
            raise ValueError(f"threshold {threshold}: exit depths must be whole numbers, 0 or more")
        yield ExitPanel(float(threshold), timesteps[0], depths.astype(np.int64))


def exit_curve(table: pd.DataFrame, full_depth: int) -> pd.DataFrame:
    """Exit depth against the timestep, over images: the phase-transition figure.

    Returns one row a (threshold, timestep), thresholds rising and timesteps falling: mean_depth; low_depth and
    high_depth, mean -+ one standard deviation clipped to the depths that occur; share_early, of exits before L.
    Raises ValueError for a malformed table or an exit deeper than `full_depth`.
    """
    _check_depth(exit_panels(table), full_depth)
    # grouped by timestep, not evaluation: a solver may evaluate twice at one timestep
    groups = table.assign(early=table["exit_depth"] < full_depth).groupby(["threshold", "timestep"])
    depth = groups["exit_depth"]
    mean, std = depth.mean(), depth.std(ddof=0)
    curve = pd.DataFrame(
        {
            "mean_depth": mean,
            "low_depth": np.maximum(mean - std, depth.min()),
            "high_depth": np.minimum(mean + std, depth.max()),
            "share_early": groups["early"].mean(),
        }
    )
    return curve.reset_index().sort_values(["threshold", "timestep"], ascending=[True, False], ignore_index=True)


def depths_by_bin(table: pd.DataFrame, threshold: float, bins: int, timesteps: int) -> list[float]:
    """Mean exit depth in the middle of equal bins of the timesteps 0..T-1, data to noise, made to fall towards noise.

    Between evaluations it is interpolated; of what never rises, it is the nearest by least squares.
    Raises ValueError for a malformed table or a threshold that is not in it.
    """
    found = [panel for panel in exit_panels(table) if panel.threshold == threshold]
    if not found:
        raise ValueError(f"the exit table has no threshold {threshold:g}")
    (panel,) = found
    middles = (np.arange(bins) + 0.5) * timesteps / bins
    means = np.interp(middles, panel.timesteps[::-1], panel.depths.mean(axis=0)[::-1])
    falling: list[float] = isotonic_regression(means, increasing=False).x.tolist()
    return falling


def exit_summary(table: pd.DataFrame, full_depth: int) -> pd.DataFrame:
    """How bimodal the exits are and how cleanly each image goes from early to full, one row a threshold.

    mean_depth               over all images and evaluations, in blocks
    share_full               of evaluations that run all L blocks
    plateau_depth            the most frequent early depth (missing where nothing exits early)
    share_plateau            of evaluations that exit there; 1 - share_full - share_plateau lie elsewhere
    early_evaluations_mean   early exits of an image, mean over images
    early_evaluations_std    and their standard deviation over images
    changes_mean             changes between early and full along one image's evaluations, mean over images
    share_one_change         of images that change exactly once: a fixed switch could reproduce them

    Raises ValueError for a malformed table or an exit deeper than `full_depth`.
    """
    panels = exit_panels(table)
    _check_depth(panels, full_depth)
    return pd.DataFrame([_summary(panel, full_depth) for panel in panels]).astype({"plateau_depth": "Int64"})


def _summary(panel: ExitPanel, full_depth: int) -> dict[str, float | None]:
    early = panel.depths < full_depth
    counts = np.bincount(panel.depths[early])
    plateau = int(counts.argmax()) if counts.size else None
    changes = np.count_nonzero(np.diff(early, axis=1), axis=1)
    return {
        "threshold": panel.threshold,
        "mean_depth": float(panel.depths.mean()),
        "share_full": 1 - float(early.mean()),
        "plateau_depth": plateau,
        "share_plateau": 0.0 if plateau is None else float((panel.depths == plateau).mean()),
        "early_evaluations_mean": float(early.sum(axis=1).mean()),
        "early_evaluations_std": float(early.sum(axis=1).std()),
        "changes_mean": float(changes.mean()),
        "share_one_change": float((changes == 1).mean()),
    }


def _check_depth(panels: list[ExitPanel], full_depth: int) -> None:
    deepest = max(int(panel.depths.max()) for panel in panels)
    if deepest > full_depth:
        raise ValueError(f"an exit at depth {deepest} is deeper than the network, which has {full_depth} blocks")
