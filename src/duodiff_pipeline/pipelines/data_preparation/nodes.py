"""Images from their source into packs."""

from pathlib import Path

from ...config import DataPreparation
from ...images.digits import read_digits, stratified_split
from ...images.idx import read_idx_split
from ...images.pack import ImagePack, require_images, require_same_shape


def prepare_images(settings: DataPreparation, seed: int) -> tuple[ImagePack, ImagePack]:
    """The training and the held-out pack."""
    if settings.source == "digits":
        images, labels = read_digits()
        indices = dict(zip(("train", "held_out"), stratified_split(labels, settings.held_out_share, seed), strict=True))
        splits = {split: (images[chosen], labels[chosen]) for split, chosen in indices.items()}
        transform = "levels 0..16 spread over 0..255"
    else:
        folder = Path(settings.folder or "")
        splits = {split: read_idx_split(folder, split) for split in ("train", "held_out")}
        transform = "none"
    for images, labels in splits.values():
        require_images(images, labels, settings.source)
    train, held_out = (ImagePack(*splits[split], settings.source, split, transform) for split in ("train", "held_out"))
    require_same_shape(train, held_out)
    return train, held_out
