"""What is known of the images, and of their latents, before they are prepared."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..config import DataPreparation
from ..config.autoencoder import LatentSource
from ..config.hub import HubSource
from ..errors import InputError
from ..images import cifar
from ..images.autoencoder import CONFIG, WEIGHTS, Autoencoder
from ..images.folder import find_images
from ..images.hub import SAME_HERE
from ..images.latents import LatentPack
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
# What cards on the Hugging Face hub say: classes of the column `label`, and images of every split.
CARDS: dict[str, tuple[int | None, dict[str, int]]] = {
    "uoft-cs/cifar10": (10, {"train": 50_000, "test": 10_000}),
    "flwrlabs/celeba": (None, {"train": 162_770, "valid": 19_867, "test": 19_962}),
    "ILSVRC/imagenet-1k": (1000, {"train": 1_281_167, "validation": 50_000, "test": 100_000}),
}
# Of Stable Diffusion 1 and 2 (arXiv 2112.10752, f = 8)
STABLE_DIFFUSION = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}


@dataclass(frozen=True)
class PlannedPack(ImagePack):
    """An image pack of which only this much is known; its images have no values.

    identity: the sha256 of the pack it stands for, or UNKNOWN.
    """

    identity: str = UNKNOWN

    @property
    def sha256(self) -> str:
        return self.identity

    def random(self, count: int) -> ImagePack:
        """One like it, of so many random images."""
        images = torch.randint(256, (count, *self.shape_chw), dtype=torch.uint8)
        return replace(self, images=images, labels=self.labels.expand(count))


@dataclass(frozen=True, eq=False)
class PlannedLatents(LatentPack):
    """The same of latents."""

    identity: str = UNKNOWN

    @property
    def sha256(self) -> str:
        return self.identity

    def random(self, count: int) -> LatentPack:
        """One like it, of so many random latents."""
        moments = torch.rand(count, *self.moments.shape[1:])
        return replace(self, moments=moments, labels=self.labels.expand(count))


@dataclass(frozen=True)
class KnownImages:
    """train: stands for the training images; examples: for what networks learn from, these or their latents; n_train,
    n_held_out: None where nobody knows yet; missing: what must be got, and where from; assumed: what was taken for
    granted instead.
    """

    train: PlannedPack
    examples: PlannedPack | PlannedLatents
    n_train: int | None
    n_held_out: int | None
    missing: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def latents(self) -> PlannedLatents | None:
        return self.examples if isinstance(self.examples, PlannedLatents) else None


def known_images(settings: DataPreparation, work_folder: Path, found: Found) -> KnownImages | None:
    """What the source itself tells, or packs that were made before; None where not even the shape is known."""
    known = _known(settings, work_folder, found)
    if known is None or settings.autoencoder is None:
        return known
    autoencoder, missing, assumed = _known_autoencoder(settings.autoencoder)
    earlier, record = found("train_latents"), found("autoencoder")
    identity = UNKNOWN
    if earlier is not None and record is not None and record["path"] == settings.autoencoder.path:
        identity = earlier.sha256 if earlier.images_sha256 == known.train.sha256 else UNKNOWN
    rows = 4 if settings.autoencoder.mirrored else 2
    latents = PlannedLatents(
        torch.empty(1, rows, *autoencoder.latent_shape(known.train.shape_chw), device="meta"),
        *(known.train.labels, autoencoder, known.train.sha256, UNKNOWN, "train", UNKNOWN),
        identity=identity,
    )
    return replace(known, examples=latents, missing=(*known.missing, *missing), assumed=(*known.assumed, *assumed))


def _known(settings: DataPreparation, work_folder: Path, found: Found) -> KnownImages | None:
    try:
        if settings.source == "image_folder":
            return _of_folder(settings, found)
        if settings.source == "hub":
            return _of_hub(settings, found)
        train, held_out = prepare_images(settings, work_folder)
        return _of_packs(train, held_out)
    except InputError as error:
        missing = str(error) if settings.source == "hub" else f"{error} ({ORIGINS[settings.source]})"
    train, held_out = found("train_images"), found("held_out_images")
    if train is not None and held_out is not None:
        return replace(_of_packs(train, held_out), missing=(missing,))
    return _without_files(settings, missing)


def _of_packs(train: ImagePack, held_out: ImagePack) -> KnownImages:
    pack = _planned(train.shape_chw, train.classes, train.sha256)
    return KnownImages(pack, pack, len(train), len(held_out))


def _of_folder(settings: DataPreparation, found: Found) -> KnownImages:
    """Of files that are counted, but not decoded."""
    files = find_images(Path(settings.folder or "").expanduser(), settings.labels or "subfolders")
    train, held_out = stratified_split(files.labels, settings.held_out_share, settings.seed)
    return _decoded(settings, max(1, len(files.classes)), len(train), len(held_out), found)


def _of_hub(settings: DataPreparation, found: Found) -> KnownImages:
    """Of files here, whose labels are counted and whose images are not decoded; else what the dataset's card says."""
    hub = settings.hub
    assert hub is not None
    if Path(hub.dataset).expanduser().exists():
        images = hub.images()
        labels = images.labels(hub.train)
        if hub.held_out is None:
            train, held_out = stratified_split(labels, settings.held_out_share, settings.seed)
        else:
            train, held_out = labels, images.labels(hub.held_out)
        return _decoded(settings, int(labels.max()) + 1, len(train), len(held_out), found)
    if hub.dataset.startswith((".", "~", "/")) or hub.dataset.endswith(".parquet"):
        raise InputError(f"data_preparation.hub.dataset: {hub.dataset} does not exist")
    missing = (
        f"data_preparation.hub.dataset: {hub.dataset} is not here: a run reads it from the Hugging Face hub, after "
        f"`hf auth login` where its licence must be accepted; {SAME_HERE}"
    )
    classes, splits = CARDS.get(hub.dataset, (None, {}))
    n_train, n_held_out = _images_of(hub.train, splits), _images_of(hub.held_out, splits)
    if hub.held_out is None and n_train is not None:
        n_held_out = round(n_train * settings.held_out_share)
        n_train -= n_held_out
    assumed, n_classes = _classes_of(hub, classes)
    if n_train is not None:
        assumed = (f"{hub.dataset} is taken for what its card on the hub says", *assumed)
    known = _decoded(settings, n_classes, n_train, n_held_out, found)
    return replace(known, missing=(missing,), assumed=assumed if known.train.sha256 == UNKNOWN else ())


def _classes_of(hub: HubSource, classes: int | None) -> tuple[tuple[str, ...], int]:
    if hub.label is None:
        return (), 1
    if classes is None:
        return ("the number of classes is not known: taken for 2",), 2
    return (), classes


def _images_of(split: str | None, splits: dict[str, int]) -> int | None:
    """Of a split, of several (a+b) or of all."""
    names = list(splits) if split == "all" else (split or "").split("+")
    return sum(splits[name] for name in names) if names and all(name in splits for name in names) else None


def _decoded(
    settings: DataPreparation, classes: int, n_train: int | None, n_held_out: int | None, found: Found
) -> KnownImages:
    """Images that are made square, or packs of them that an earlier run made of as many."""
    decoding = settings.decoding()
    shape = (decoding.channels, decoding.image_size, decoding.image_size)
    train, held_out = found("train_images"), found("held_out_images")
    if train is not None and held_out is not None and train.shape_chw == shape:
        source = settings.hub.dataset if settings.hub and settings.source == "hub" else settings.source
        counted = n_train in (None, len(train)) and n_held_out in (None, len(held_out))
        if counted and train.source.partition(", ")[0] == source:
            return _of_packs(train, held_out)
    pack = _planned(shape, classes)
    return KnownImages(pack, pack, n_train, n_held_out)


def _without_files(settings: DataPreparation, missing: str) -> KnownImages | None:
    if settings.source in ("image_folder", "hub"):
        unlabelled = settings.labels == "none" or (settings.hub is not None and settings.hub.label is None)
        decoding, classes = settings.decoding(), 1 if unlabelled else 2
        shape = (decoding.channels, decoding.image_size, decoding.image_size)
        assumed = f"the number of images is not known, and classes are taken for {classes}"
        pack = _planned(shape, classes)
        return KnownImages(pack, pack, None, None, (missing,), (assumed,))
    of = {"idx": ("MNIST", MNIST), "cifar10": ("CIFAR-10", CIFAR10)}.get(settings.source)
    if of is None:
        return None
    family, ((channels, size, _), classes, n_train, n_held_out) = of
    size = settings.image_size or size
    assumed = (
        f"the images are taken for {n_train:,} and {n_held_out:,} of {channels} x {size} x {size}, as those of {family}"
    )
    pack = _planned((channels, size, size), classes)
    return KnownImages(pack, pack, n_train, n_held_out, (missing,), (assumed,))


def _planned(shape_chw: Shape, classes: int, sha256: str = UNKNOWN) -> PlannedPack:
    images = torch.empty(1, *shape_chw, dtype=torch.uint8, device="meta")
    return PlannedPack(images, torch.tensor([classes - 1]), UNKNOWN, "train", UNKNOWN, sha256)


def _known_autoencoder(of: LatentSource) -> tuple[Autoencoder, tuple[str, ...], tuple[str, ...]]:
    """On the meta device, of its configuration alone; what is missing, and what was taken for granted instead."""
    from diffusers import AutoencoderKL

    files = _autoencoder_files(of)
    missing, assumed, config = list[str](), list[str](), dict[str, Any](STABLE_DIFFUSION)
    if files.get(CONFIG):
        found = json.loads(Path(files[CONFIG] or "").read_text())
        config = {name: value for name, value in found.items() if not name.startswith("_")}
    else:
        assumed.append("the autoencoder is taken for Stable Diffusion's: 4 numbers for 8 x 8 pixels")
    if not all(files.values()):
        where = "here"
        if not of.path.startswith((".", "~", "/")):
            where = "here: a run downloads it from the Hugging Face hub; or name a folder in diffusers' layout"
        missing.append(f"data_preparation.autoencoder.path: {of.path} is not {where}")
    with torch.device("meta"):
        weights = AutoencoderKL.from_config(config).state_dict()  # type: ignore[no-untyped-call]
        autoencoder = Autoencoder(config, weights, of.batch_images)
        _ = autoencoder.module  # made on this device, and kept
    return autoencoder, tuple(missing), tuple(assumed)


def _autoencoder_files(of: LatentSource) -> dict[str, str | None]:
    """Where its files lie: in a folder, or in the cache of the Hugging Face hub; None where they do not."""
    from huggingface_hub import try_to_load_from_cache

    here, files = Path(of.path).expanduser(), {}
    for name in (CONFIG, WEIGHTS):
        inside = f"{of.subfolder}/{name}" if of.subfolder else name
        if here.is_dir():
            files[name] = str(here / inside) if (here / inside).is_file() else None
        elif of.path.startswith((".", "~", "/")):
            files[name] = None
        else:
            cached = try_to_load_from_cache(of.path, inside, revision=of.revision)
            files[name] = cached if isinstance(cached, str) else None
    return files
