"""Features a block of rows at a time, in float64: what keeps the memory of every statistic bounded.

Features themselves are float32, as extractors give them, N D 4 bytes: 410 MB of 50,000 images and D = 2048. Whatever is
computed of them, or of pairs of them, holds a few blocks of `ROWS` rows or `ROWS` x `ROWS` pairs beside.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 2048


def blocks(rows: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Rows (N, D) as float64 blocks of at most `ROWS`, each with its place."""
    for start in range(0, len(rows), ROWS):
        place = slice(start, min(start + ROWS, len(rows)))
        yield place, rows[place].astype(np.float64)


def squared_distances(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) squared Euclidean distances of x (N, D) and y (M, D), to about 1e-15 of the squared norms."""
    squared: NDArray[np.float64] = x @ y.T  # the one array of that size
    squared *= -2
    squared += np.einsum("nd,nd->n", x, x)[:, None]
    squared += np.einsum("md,md->m", y, y)
    return squared.clip(min=0, out=squared)


def require_finite(features: NDArray[np.floating]) -> None:
    """Raise ValueError, saying how many images are concerned, where features (N, D) are not finite."""
    bad = sum(int((~np.isfinite(features[i : i + ROWS])).any(axis=1).sum()) for i in range(0, len(features), ROWS))
    if bad:
        raise ValueError(f"the features of {bad} of {len(features)} images are not finite")
