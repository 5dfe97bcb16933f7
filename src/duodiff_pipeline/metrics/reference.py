"""What generated images are measured against: reference statistics with their provenance, and the floor."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.random import keyed_generator
from ..errors import InputError
from ..files import content_sha256, load_tensors, save_tensors
from .frechet import GaussianStatistics

RealSplit = Literal["held_out", "train"]
ReferenceSplit = Literal["held_out", "train", "published"]

_KIND = "reference statistics"


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Statistics of the reference images' features, and where they come from.

    extractor, extractor_sha256: which features. data_sha256: of the image pack, or of the file of published statistics.
    split: what the statistics are of.
    """

    statistics: GaussianStatistics
    extractor: str
    extractor_sha256: str
    data_sha256: str
    split: ReferenceSplit

    @property
    def sample_split(self) -> RealSplit:
        """The images for metrics that need more than statistics; published ones are taken to be of training images."""
        return "held_out" if self.split == "held_out" else "train"

    @property
    def floor_split(self) -> RealSplit:
        """The other images, which the floor is drawn from."""
        return "train" if self.split == "held_out" else "held_out"

    @classmethod
    def published(cls, path: Path, extractor: str, extractor_sha256: str) -> "ReferenceStatistics":
        """Of an .npz file with `mu` (D,) and `sigma` (D, D), as papers publish them; how many images is not said.

        That they were made with this extractor is the caller's claim. Raises InputError where the file is missing or
        holds no such statistics.
        """
        try:
            content = path.read_bytes()
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                mu, sigma = (arrays[name].astype(np.float64) for name in ("mu", "sigma"))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no .npz file with the arrays mu and sigma") from error
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
            raise InputError(f"{path} holds mu {mu.shape} and sigma {sigma.shape}, not (D,) and (D, D)")
        if not (np.isfinite(mu).all() and np.isfinite(sigma).all() and np.allclose(sigma, sigma.T)):
            raise InputError(f"{path} holds numbers that are not finite, or a sigma that is not symmetric")
        statistics = GaussianStatistics(mu, (sigma + sigma.T) / 2, None)
        return cls(statistics, extractor, extractor_sha256, hashlib.sha256(content).hexdigest(), "published")

    @property
    def sha256(self) -> str:
        """Of the statistics' float64 bytes and of the provenance, in hexadecimal."""
        return content_sha256(self._header(), self._tensors())

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        save_tensors(path, _KIND, self._header(), self._tensors())

    @classmethod
    def load(cls, path: Path) -> "ReferenceStatistics":
        """What `save` wrote; raises what `load_tensors` raises."""
        header, tensors = load_tensors(path, _KIND)
        mu, sigma = tensors["mu"].numpy(), tensors["sigma"].numpy()
        return cls(GaussianStatistics(mu, sigma, header.pop("n_images")), **header)

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
    """A metric of draws of `n_images` real images: what a perfect generator would score."""

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
    real_features: NDArray[np.floating],
    metric: Callable[[NDArray[np.floating]], float],
    n: int,
    repeats: int,
    seed: int,
) -> Floor:
    """`metric` of features (n, D) of `repeats` draws of n from the features (N, D) of real images, not the reference's.

    A draw is without replacement and depends on (seed, number of the draw) alone.

    Raises ValueError for more images than there are, and for fewer than 2 draws, which have no spread.
    """
    if n > len(real_features):
        raise ValueError(f"the floor cannot draw {n} of {len(real_features)} real images")
    if repeats < 2:
        raise ValueError(f"the floor's spread needs at least 2 draws, not {repeats}")
    values = []
    for repeat in range(repeats):
        drawn = keyed_generator(seed, "floor", repeat).choice(len(real_features), n, replace=False)
        values.append(metric(real_features[drawn]))
    return Floor(tuple(values), n)
