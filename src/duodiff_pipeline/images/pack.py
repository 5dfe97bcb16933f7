"""The image pack: all images of one split in a single memory-mapped file, with a manifest."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..files import content_sha256, load_tensors, save_tensors

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
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def sha256(self) -> str:
        """Identifies images and labels, wherever the file lies."""
        return content_sha256({}, self._tensors())

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
