"""Images to latents, encoded once; a process that is killed is gone on with."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config import DataPreparation, HardwareSettings
from ...errors import InputError
from ...images.autoencoder import Autoencoder, fetch_autoencoder
from ...images.latents import LatentPack
from ...images.pack import ImagePack
from ...images.rows import RowFile
from ...networks.cost import count_macs
from ...workdir import WorkDir
from ..progress import Progress

CODE = ["config/autoencoder.py", "pipelines/data_preparation/latents.py"]

logger = logging.getLogger(__name__)


def encode_latents(
    train: ImagePack, held_out: ImagePack, settings: DataPreparation, hardware: HardwareSettings, work_folder: Path
) -> tuple[LatentPack, LatentPack, dict[str, Any]]:
    """The latents of both packs, and the record of the autoencoder: where it came from, its sha256, what it costs.

    Of an image the disk takes 8 (mirrored: 16) bytes a latent number, 64 kB at 4 x 32 x 32, twice, and memory nothing.
    Raises InputError where the autoencoder is missing, another than its sha256 says, or not for such images.
    """
    of = settings.autoencoder
    assert of is not None
    autoencoder = Autoencoder.open(fetch_autoencoder(of.path, of.subfolder, of.revision), of.batch_images)
    logger.info("the autoencoder %s has the sha256 %s", of.path, autoencoder.sha256)
    if of.sha256 not in (None, autoencoder.sha256):
        raise InputError(
            f"data_preparation.autoencoder.sha256: {of.path} has {autoencoder.sha256}: take the one that is meant, or "
            "set this one"
        )
    latent_chw = autoencoder.latent_shape(train.shape_chw)
    if (given_back := autoencoder.image_shape(latent_chw)) != train.shape_chw:
        raise InputError(f"the autoencoder {of.path} makes images {given_back} of images {train.shape_chw}")
    inputs = {"train": train.sha256, "held_out": held_out.sha256, "autoencoder": autoencoder.sha256}
    parameters = {"mirrored": of.mirrored, "batch_images": of.batch_images, "hardware": hardware.of_sampling}
    work = WorkDir(work_folder, "latents", parameters, inputs, CODE)
    device = hardware.device

    def moments(images: Tensor) -> Tensor:
        found = autoencoder.encode(images, device)
        return torch.cat([found, autoencoder.encode(images.flip(-1), device)], dim=1) if of.mirrored else found

    def encoded(pack: ImagePack) -> LatentPack:
        rows = RowFile(work.folder / f"{pack.split}.rows", (4 if of.mirrored else 2, *latent_chw), np.float32)
        starts = range(len(rows), len(pack), of.batch_images)
        progress = Progress([1.0] * len(starts), f"batches of {pack.split} encoded")
        for start in starts:
            rows.append(moments(pack.images[start : start + of.batch_images]).numpy())
            progress.advance()
        transform = f"{pack.transform}; latents of {of.path}"
        return LatentPack(rows.mapped(), pack.labels, autoencoder, pack.sha256, pack.source, pack.split, transform)

    record = {
        "path": of.path,
        "subfolder": of.subfolder,
        "revision": of.revision,
        "sha256": autoencoder.sha256,
        "latent_chw": latent_chw,
        "decoding_gmacs": count_macs(autoencoder.decoder, torch.empty(1, *latent_chw, device="meta")) / 1e9,
        "decoding_parameters": sum(
            tensor.numel() for name, tensor in autoencoder.state.items() if name.startswith(("decoder", "post_quant"))
        ),
    }
    return encoded(train), encoded(held_out), record
