"""Are generated images copies? The share of them that is nearer to training than to held-out images.

Fréchet and kernel distances reward copies of training images. Training and held-out images are exchangeable to a
generator that has learnt their distribution and remembers none of them: the real image nearest to a generated one is
then a training image with probability p = n_train / (n_train + n_held_out). A share credibly above p is memorisation.

Which images were held out is one draw, the same for all seed blocks. Given the generated images, let w_j be the share
of them whose nearest real image is j, of N in all. Over that draw, the share of training images among the nearest has
the mean p and the variance p (1 - p) N / (N - 1) (sum_j w_j^2 - 1/N): that of drawing without replacement. It is
large where many generated images flock around few real ones, as blurred ones do, and no number of blocks reduces it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min

from .blocks import blocks
from .intervals import Interval, block_interval

ROUNDING = 1e-6  # of float32 features, relative to their norm


@dataclass(frozen=True)
class Nearness:
    """Of one block of generated images.

    share: nearer to training than to held-out images, a tie counting half; same_nearest: probability that two of them
    have the same nearest real image, the unbiased estimate of sum_j w_j^2.
    """

    share: float
    same_nearest: float


@dataclass(frozen=True, eq=False)
class Neighbours:
    """train (N, D) and held_out (M, D), one image a row: features, or pixels as their levels 0..255.

    Levels order distances as [-1, 1] does, and being integers they give them exactly.
    """

    train: NDArray[Any]
    held_out: NDArray[Any]

    def nearness(self, generated: NDArray[Any]) -> Nearness:
        """Of at least 2 generated images (n, D), by Euclidean distance.

        Distances that differ by no more than rounding are a tie, so that an image that stands in both sets favours
        none. Raises ValueError for fewer images, other widths and values that are not finite.
        """
        n = len(generated)
        if n < 2:
            raise ValueError(f"the nearest real images of {n} generated one cannot be compared: 2 are needed")
        nearer, nearest = np.empty(n), np.empty(n, np.int64)
        for place, queries in blocks(generated):
            train, to_train = _nearest(queries, self.train)
            held_out, to_held_out = _nearest(queries, self.held_out)
            further = to_held_out - to_train
            tie = abs(further) <= ROUNDING * np.linalg.norm(queries, axis=1)
            nearer[place] = np.where(tie, 0.5, further > 0)
            nearest[place] = np.where(further > 0, train, len(self.train) + held_out)
        counts = np.unique(nearest, return_counts=True)[1]
        return Nearness(float(nearer.mean()), float((counts * (counts - 1)).sum() / (n * (n - 1))))


def share_by_chance(n_train: int, n_held_out: int) -> float:
    """p: the share to expect where nothing is remembered."""
    return n_train / (n_train + n_held_out)


def memorisation_interval(blocks: Sequence[Nearness], n_train: int, n_held_out: int) -> Interval:
    """Mean share of at least 5 blocks, with a 95 % interval of block and draw of the held-out images together.

    Raises ValueError for fewer blocks.
    """
    p, n_real = share_by_chance(n_train, n_held_out), n_train + n_held_out
    same_nearest = float(np.mean([block.same_nearest for block in blocks]))
    split_variance = p * (1 - p) * n_real / (n_real - 1) * max(0.0, same_nearest - 1 / n_real)
    interval = block_interval([block.share for block in blocks], split_variance)
    return replace(interval.within(0, 1), method=f"{interval.method}, and the draw of the held-out images")


def _nearest(queries: NDArray[np.float64], images: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index of the nearest image and Euclidean distance to it, both (n,)."""
    index, distance = np.zeros(len(queries), np.int64), np.full(len(queries), np.inf)
    for place, some in blocks(images):
        nearest, its_distance = pairwise_distances_argmin_min(queries, some)
        nearer = its_distance < distance
        index[nearer], distance[nearer] = place.start + nearest[nearer], its_distance[nearer]
    return index, distance
