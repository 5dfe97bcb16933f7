"""What generated images are measured against: reference statistics with their provenance, and the floor."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.random import keyed_generator
from ..files import content_sha256, load_tensors, save_tensors
from .frechet import GaussianStatistics

_KIND = "reference statistics"


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Statistics of the reference images' features, and where they come from.

    extractor, extractor_sha256: which features. data_sha256: of the image pack. split: e.g. "held_out".
    """

    statistics: GaussianStatistics
    extractor: str
    extractor_sha256: str
    data_sha256: str
    split: str

    @property
    def sha256(self) -> str:
        """Of the statistics' float64 bytes and of the provenance, in hexadecimal."""
        return content_sha256(self._header(), self._tensors())

    def save(self, path: Path) -> None:
        """Write one safetensors file, with the root of the covariance: it takes seconds where features are many."""
        root = torch.from_numpy(self.statistics.root)
        save_tensors(path, _KIND, self._header(), {**self._tensors(), "root": root})

    @classmethod
    def load(cls, path: Path) -> "ReferenceStatistics":
        """What `save` wrote; raises what `load_tensors` raises."""
        header, tensors = load_tensors(path, _KIND)
        statistics = GaussianStatistics(tensors["mu"].numpy(), tensors["sigma"].numpy(), header.pop("n_images"))
        if "root" in tensors:
            vars(statistics)["root"] = tensors["root"].numpy()  # where the cached property keeps it
        return cls(statistics, **header)

    def _header(self) -> dict[str, Any]:
        return {
            "n_images": self.statistics.n_images,
            "extractor": self.extractor,
            "extractor_sha256": self.extractor_sha256,
            "data_sha256": self.data_sha256,
            "split": self.split,
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {"mu": torch.from_numpy(self.statistics.mu), "sigma": torch.from_numpy(self.statistics.sigma)}


@dataclass(frozen=True)
class Floor:
    """Distances of draws of `n_images` real training images: what a perfect generator would score."""

    values: tuple[float, ...]
    n_images: int

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation between draws. Draws share images, so near n = all of them it is too small."""
        return float(np.std(self.values, ddof=1))


def floor(
    train_features: NDArray[np.floating],
    distance: Callable[[NDArray[np.floating]], float],
    n: int,
    repeats: int,
    seed: int,
) -> Floor:
    """Distances to the reference, by `distance` of features (n, D), of `repeats` draws of n from features (N, D).

    A draw is without replacement and depends on (seed, number of the draw) alone.

    Raises ValueError for more images than there are, and for fewer than 2 draws, which have no spread.
    """
    if n > len(train_features):
        raise ValueError(f"the floor cannot draw {n} of {len(train_features)} training images")
    if repeats < 2:
        raise ValueError(f"the floor's spread needs at least 2 draws, not {repeats}")
    values = []
    for repeat in range(repeats):
        drawn = keyed_generator(seed, "floor", repeat).choice(len(train_features), n, replace=False)
        values.append(distance(train_features[drawn]))
    return Floor(tuple(values), n)
