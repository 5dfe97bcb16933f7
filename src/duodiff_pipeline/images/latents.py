"""The latents of one split in a single memory-mapped file, with the autoencoder that made them and decodes them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files import content_sha256, load_tensors, save_tensors
from .autoencoder import Autoencoder
from .examples import spread

KIND = "latent pack"
_WEIGHTS = "autoencoder."


@dataclass(frozen=True, eq=False)
class LatentPack:
    """What networks learn from in place of an `ImagePack`.

    moments: (N, 2, c, h, w) float32, mean and standard deviation of every image's posterior; or (N, 4, c, h, w), those
    of the mirrored image behind them, since a mirrored latent is not the latent of the mirrored image.
    labels: (N,) int64; images_sha256: of the pack that was encoded; source, split, transform: as that says them.
    """

    moments: Tensor
    labels: Tensor
    autoencoder: Autoencoder
    images_sha256: str
    source: str
    split: str
    transform: str

    def __len__(self) -> int:
        return len(self.moments)

    @property
    def shape_chw(self) -> tuple[int, int, int]:
        c, h, w = self.moments.shape[2:]
        return c, h, w

    @property
    def image_chw(self) -> tuple[int, int, int]:
        return self.autoencoder.image_shape(self.shape_chw)

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def sha256(self) -> str:
        """Identifies latents, labels and autoencoder, wherever the file lies."""
        return content_sha256(self._header(), self._tensors())

    def x0(self, indices: Tensor, rng: np.random.Generator, mirrored: Tensor | None = None) -> Tensor:
        """A draw from the posterior of every image, as networks see it; see `Examples`."""
        moments = self.moments[indices]
        if mirrored is not None:
            if moments.shape[1] == 2:
                raise InputError("latents of mirrored images are not stored: set data_preparation.autoencoder.mirrored")
            moments = torch.where(mirrored[:, None, None, None, None], moments[:, 2:], moments[:, :2])
        mean, std = moments[:, 0], moments[:, 1]
        return self.autoencoder.scaled(mean + std * torch.from_numpy(rng.standard_normal(mean.shape, np.float32)))

    def rows(self, n: int | None = None) -> NDArray[np.float32]:
        """Means of the posteriors, as networks see them; see `Examples`."""
        means = self.moments[:, 0] if n is None else self.moments[spread(len(self), n), 0]
        return self.autoencoder.scaled(means).flatten(1).numpy()

    def to_images(self, x_nchw: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Decoded; see `Examples`."""
        return self.autoencoder.decode(x_nchw, device)

    def save(self, path: Path) -> None:
        manifest = {"source": self.source, "split": self.split, "transform": self.transform, "count": len(self)}
        save_tensors(path, KIND, {**manifest, **self._header()}, self._tensors())

    @classmethod
    def load(cls, path: Path) -> "LatentPack":
        """Raises InputError, naming the file, where it is missing, damaged or altered."""
        header, tensors = load_tensors(path, KIND)
        state = {name.removeprefix(_WEIGHTS): tensors[name] for name in tensors if name.startswith(_WEIGHTS)}
        autoencoder = Autoencoder(header["config"], state, header["batch_images"])
        told = {name: header[name] for name in ("images_sha256", "source", "split", "transform")}
        return cls(tensors["moments"], tensors["labels"], autoencoder, **told)

    def _header(self) -> dict[str, object]:
        config = json.loads(json.dumps(dict(self.autoencoder.config)))  # as it comes back from a file
        return {"images_sha256": self.images_sha256, "config": config, "batch_images": self.autoencoder.batch_images}

    def _tensors(self) -> dict[str, Tensor]:
        weights = {f"{_WEIGHTS}{name}": tensor for name, tensor in self.autoencoder.state.items()}
        return {"moments": self.moments, "labels": self.labels, **weights}
