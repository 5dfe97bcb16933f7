"""Images from their source into packs."""

from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ...config import DataPreparation
from ...images.cifar import read_cifar10_split
from ...images.decoding import read_images, require_sizes
from ...images.digits import read_digits
from ...images.folder import find_images
from ...images.idx import read_idx_split
from ...images.pack import ImagePack, require_images, require_same_shape
from ...images.pixels import shrunk
from ...images.split import stratified_split
from ...workdir import WorkDir
from .hub import hub_packs

CODE = ["config/data.py", "config/hub.py", "pipelines/data_preparation"]
SPLITS = ("train", "held_out")


def prepare_images(settings: DataPreparation, work_folder: Path) -> tuple[ImagePack, ImagePack]:
    """The training and the held-out pack."""
    if settings.source == "hub":
        train, held_out = hub_packs(settings, CODE, work_folder)
        for pack in (train, held_out):
            require_images(pack.images, pack.labels, pack.source)
        return train, held_out
    if settings.source == "image_folder":
        return _folder_packs(settings, work_folder)
    if settings.source == "digits":
        images, labels = read_digits()
        indices = stratified_split(labels, settings.held_out_share, settings.seed)
        splits = {split: (images[chosen], labels[chosen]) for split, chosen in zip(SPLITS, indices, strict=True)}
        transform = "levels 0..16 spread over 0..255"
    else:
        folder = Path(settings.folder or "").expanduser()
        read = {"idx": read_idx_split, "cifar10": read_cifar10_split}[settings.source]
        splits = {split: read(folder, split) for split in SPLITS}
        transform = "none"
        if (side := settings.image_size) is not None:
            splits = {split: (shrunk(images, side), labels) for split, (images, labels) in splits.items()}
            transform = f"means of squares, to {side}x{side}"
    for images, labels in splits.values():
        require_images(images, labels, settings.source)
    train, held_out = (ImagePack(*splits[split], settings.source, split, transform) for split in SPLITS)
    require_same_shape(train, held_out)
    return train, held_out


def _folder_packs(settings: DataPreparation, work_folder: Path) -> tuple[ImagePack, ImagePack]:
    """Decoding many files takes minutes, so the packs are kept until a file or what makes them changes."""
    decoding = settings.decoding()
    found = find_images(Path(settings.folder or "").expanduser(), settings.labels or "subfolders")
    indices = stratified_split(found.labels, settings.held_out_share, settings.seed)
    require_sizes(found.paths, decoding)
    parameters = {
        **asdict(decoding),
        "classes": found.classes,
        "held_out_share": settings.held_out_share,
        "seed": settings.seed,
    }
    work = WorkDir(work_folder, "data_preparation", parameters, {"files": found.sha256}, CODE)
    classes = f"{len(found.classes)} classes by subfolder" if found.classes else "no classes"

    def pack(split: str, chosen: Tensor) -> ImagePack:
        def decode(path: Path) -> None:
            images = read_images([found.paths[i] for i in chosen.tolist()], decoding)
            ImagePack(images, found.labels[chosen], settings.source, split, f"{decoding}; {classes}").save(path)

        return ImagePack.load(work.keep(f"{split}.safetensors", decode))

    train, held_out = (pack(split, chosen) for split, chosen in zip(SPLITS, indices, strict=True))
    return train, held_out
