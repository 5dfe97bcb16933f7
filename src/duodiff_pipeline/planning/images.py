"""What is known of the images before they are prepared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import DataPreparation
from ..errors import InputError
from ..images import cifar
from ..images.folder import find_images
from ..images.pack import ImagePack
from ..images.split import stratified_split
from ..pipelines.data_preparation.nodes import prepare_images

Shape = tuple[int, int, int]
Found = Callable[[str], Any]
"""What an earlier run left under this name of the catalog; None where there is nothing."""

UNKNOWN = "not known yet"
# Where those sources come from whose parameters name a folder.
ORIGINS = {
    "idx": "Fashion-MNIST is Debian's package dataset-fashion-mnist, and https://github.com/zalandoresearch/fashion-mnist",
    "cifar10": 'CIFAR-10\'s "binary version" is at https://www.cs.toronto.edu/~kriz/cifar.html',
    "image_folder": "a folder of images of your own will do",
}
# All of the MNIST family are as these: shape, classes, training and held-out images.
MNIST: tuple[Shape, int, int, int] = ((1, 28, 28), 10, 60_000, 10_000)
CIFAR10: tuple[Shape, int, int, int] = (cifar.SHAPE, 10, 50_000, 10_000)


@dataclass(frozen=True)
class PlannedPack(ImagePack):
    """An image pack of which only this much is known; its images have no values.

    identity: the sha256 of the pack it stands for, or UNKNOWN.
    """

    identity: str = UNKNOWN

    @property
    def sha256(self) -> str:
        return self.identity


@dataclass(frozen=True)
class KnownImages:
    """train: stands for the training images; n_train, n_held_out: None where nobody knows yet; missing: what must be
    got, and where from; assumed: what was taken for granted instead.
    """

    train: PlannedPack
    n_train: int | None
    n_held_out: int | None
    missing: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def known_images(settings: DataPreparation, work_folder: Path, found: Found) -> KnownImages | None:
    """What the source itself tells, or packs that were made before; None where not even the shape is known."""
    try:
        if settings.source == "image_folder":
            return _of_folder(settings)
        train, held_out = prepare_images(settings, work_folder)
        return _of_packs(train, held_out)
    except InputError as error:
        missing = f"{error} ({ORIGINS[settings.source]})"
    train, held_out = found("train_images"), found("held_out_images")
    if train is not None and held_out is not None:
        known = _of_packs(train, held_out)
        return KnownImages(known.train, known.n_train, known.n_held_out, (missing,))
    return _without_files(settings, missing)


def _of_packs(train: ImagePack, held_out: ImagePack) -> KnownImages:
    pack = _planned(train.shape_chw, train.classes, train.sha256)
    return KnownImages(pack, len(train), len(held_out))


def _of_folder(settings: DataPreparation) -> KnownImages:
    """Of files that are counted, but not decoded."""
    decoding = settings.decoding()
    files = find_images(Path(settings.folder or "").expanduser(), settings.labels or "subfolders")
    train, held_out = stratified_split(files.labels, settings.held_out_share, settings.seed)
    shape = (decoding.channels, decoding.image_size, decoding.image_size)
    return KnownImages(_planned(shape, max(1, len(files.classes))), len(train), len(held_out))


def _without_files(settings: DataPreparation, missing: str) -> KnownImages | None:
    if settings.source == "image_folder":
        decoding = settings.decoding()
        shape = (decoding.channels, decoding.image_size, decoding.image_size)
        assumed = "the number of images is not known, and classes are taken for 2"
        return KnownImages(_planned(shape, 2), None, None, (missing,), (assumed,))
    of = {"idx": ("MNIST", MNIST), "cifar10": ("CIFAR-10", CIFAR10)}.get(settings.source)
    if of is None:
        return None
    family, ((channels, size, _), classes, n_train, n_held_out) = of
    size = settings.image_size or size
    assumed = (
        f"the images are taken for {n_train:,} and {n_held_out:,} of {channels} x {size} x {size}, as those of {family}"
    )
    return KnownImages(_planned((channels, size, size), classes), n_train, n_held_out, (missing,), (assumed,))


def _planned(shape_chw: Shape, classes: int, sha256: str = UNKNOWN) -> PlannedPack:
    images = torch.empty(1, *shape_chw, dtype=torch.uint8, device="meta")
    return PlannedPack(images, torch.tensor([classes - 1]), UNKNOWN, "train", UNKNOWN, sha256)
