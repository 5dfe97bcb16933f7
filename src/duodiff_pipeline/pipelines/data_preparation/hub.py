"""A Hugging Face dataset into packs, decoded once and image by image, whatever its size.

Beside labels, 8 bytes an image, memory holds what `HubImages` reads and BATCH_IMAGES images, encoded and decoded; the
packs are mapped from the files that grow in the work folder. A process that is killed is gone on with.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...config import DataPreparation
from ...errors import InputError
from ...files import load_tensors, save_tensors
from ...images.decoding import Decoding, read_image
from ...images.hub import HubImages
from ...images.pack import ImagePack
from ...images.rows import RowFile
from ...images.split import stratified_split
from ...workdir import WorkDir
from ..progress import Progress

BATCH_IMAGES = 256
LABELS = "labels"


def hub_packs(settings: DataPreparation, code: list[str], work_folder: Path) -> tuple[ImagePack, ImagePack]:
    """The training and the held-out pack; code: what they depend on, see `WorkDir`."""
    assert settings.hub is not None
    hub, decoding, images = settings.hub, settings.decoding(), settings.hub.images()
    parameters = {
        **asdict(decoding),
        **hub.model_dump(exclude={"dataset", "revision"}),
        **({} if hub.held_out else {"held_out_share": settings.held_out_share, "seed": settings.seed}),
    }
    work = WorkDir(work_folder, "data_preparation", parameters, {"files": images.identity}, code)

    def labels(split: str) -> Tensor:
        path = work.keep(
            f"{LABELS}_{split}.safetensors", lambda path: save_tensors(path, LABELS, {}, {LABELS: images.labels(split)})
        )
        return load_tensors(path, LABELS)[1][LABELS]

    def pack(split: str, of: str, chosen: Tensor) -> ImagePack:
        rows = RowFile(work.folder / f"{split}.rows", (decoding.channels, *[decoding.image_size] * 2), np.uint8)
        _decode(images, of, chosen, decoding, rows)
        transform = f"{decoding}; {f'classes by {hub.label}' if hub.label else 'no classes'}"
        return ImagePack(rows.mapped(), labels(of)[chosen], f"{hub.dataset}, {of}", split, transform)

    if hub.held_out is not None:
        splits = {"train": hub.train, "held_out": hub.held_out}
        chosen = {split: torch.arange(len(labels(of))) for split, of in splits.items()}
    else:
        splits = dict.fromkeys(("train", "held_out"), hub.train)
        _require_two_of_each(labels(hub.train), hub.dataset)
        drawn = stratified_split(labels(hub.train), settings.held_out_share, settings.seed)
        chosen = dict(zip(splits, drawn, strict=True))
    train, held_out = (pack(split, of, chosen[split]) for split, of in splits.items())
    return train, held_out


def _decode(images: HubImages, split: str, chosen: Tensor, decoding: Decoding, rows: RowFile) -> None:
    """Images of these numbers, ascending, behind those that `rows` has already."""
    left: list[int] = chosen[len(rows) :].tolist()
    if not left:
        return
    wanted, progress = set(left), Progress([1.0] * -(-len(left) // BATCH_IMAGES), f"batches of {split} decoded")
    numbered = enumerate(images.pictures(split, left[0]), start=left[0])
    pictures = (picture for number, picture in numbered if number in wanted)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while batch := list(islice(pictures, min(BATCH_IMAGES, len(chosen) - len(rows)))):
            decoded = list(threads.map(lambda picture: read_image(picture[1], decoding, picture[0]).numpy(), batch))
            rows.append(np.stack(decoded))
            progress.advance()
    if len(rows) < len(chosen):
        raise InputError(
            f"{images.dataset}: split {split} ended after {len(rows)} of {len(chosen)} images: run it again"
        )


def _require_two_of_each(labels: Tensor, dataset: str) -> None:
    counts = labels.bincount()
    if alone := (counts == 1).nonzero().flatten().tolist():
        raise InputError(
            f"{dataset}: class {alone[0]} has a single image, and a split of both parts needs 2: set "
            "data_preparation.hub.held_out to a split, or label to null"
        )
