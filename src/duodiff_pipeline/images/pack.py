"""The image pack: all images of one split in a single memory-mapped file, with a manifest."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..files import content_sha256, load_tensors, save_tensors
from .examples import spread
from .pixels import from_uint8, to_uint8

KIND = "image pack"


@dataclass(frozen=True)
class ImagePack:
    """images: (N, C, H, W) uint8; labels: (N,) int64, 0..classes-1.

    source: where the images come from; split: train or held_out; transform: what was done to them on the way.
    """

    images: Tensor
    labels: Tensor
    source: str
    split: str
    transform: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape_chw(self) -> tuple[int, int, int]:
        _, c, h, w = self.images.shape
        return c, h, w

    @property
    def image_chw(self) -> tuple[int, int, int]:
        return self.shape_chw

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def sha256(self) -> str:
        """Identifies images and labels, wherever the file lies."""
        return content_sha256({}, self._tensors())

    def x0(self, indices: Tensor, rng: np.random.Generator, mirrored: Tensor | None = None) -> Tensor:
        """In [-1, 1], nothing left to chance; see `Examples`."""
        x0 = from_uint8(self.images[indices])
        return x0 if mirrored is None else torch.where(mirrored[:, None, None, None], x0.flip(-1), x0)

    def rows(self, n: int | None = None) -> NDArray[np.uint8]:
        """Levels; see `Examples`."""
        images = self.images if n is None else self.images[spread(len(self), n)]
        return images.flatten(1).numpy()

    def to_images(self, x_nchw: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Clipped and rounded; see `Examples`."""
        return to_uint8(x_nchw).cpu()

    def save(self, path: Path) -> None:
        manifest = {"source": self.source, "split": self.split, "transform": self.transform, "count": len(self)}
        save_tensors(path, KIND, manifest, self._tensors())

    @classmethod
    def load(cls, path: Path) -> "ImagePack":
        """Raises InputError, naming the file, where it is missing, damaged or altered."""
        manifest, tensors = load_tensors(path, KIND)
        return cls(tensors["images"], tensors["labels"], manifest["source"], manifest["split"], manifest["transform"])

    def _tensors(self) -> dict[str, Tensor]:
        return {"images": self.images, "labels": self.labels}


def require_images(images: Tensor, labels: Tensor, source: str) -> None:
    """Raises InputError where images (N, C, H, W) uint8 and labels (N,) do not fit together or cannot be used."""
    _, _, height, width = images.shape
    if len(images) < 2:
        raise InputError(f"{source}: a split has {len(images)} images, but statistics need 2 at least")
    if height != width:
        raise InputError(f"{source}: images are {height}x{width}, but the networks take square ones")
    if len(images) != len(labels):
        raise InputError(f"{source}: {len(images)} images but {len(labels)} labels")
    if images.dtype != torch.uint8:
        raise InputError(f"{source}: images are {images.dtype}, not 8-bit")


def require_same_shape(train: ImagePack, held_out: ImagePack) -> None:
    """Raises InputError where the two splits hold images of different shapes."""
    if train.shape_chw != held_out.shape_chw:
        raise InputError(
            f"{train.source}: training images are {train.shape_chw} (channels, height, width), "
            f"but held-out ones {held_out.shape_chw}"
        )
