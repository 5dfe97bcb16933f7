"""CIFAR-10's "binary version" (https://www.cs.toronto.edu/~kriz/cifar.html): files of labels and pixels, no pickle."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "held_out": ["test_batch.bin"]}
SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32  # a label, then red, green and blue, each row by row


def read_cifar10_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64 of the split train or held_out.

    Raises InputError where a file is missing (naming it) or holds no whole records.
    """
    records = []
    for path in (folder / name for name in FILES[split]):
        if not path.is_file():
            raise InputError(
                f"{path} is missing: data_preparation.folder must hold the six .bin files of CIFAR-10's binary version"
            )
        raw = np.frombuffer(path.read_bytes(), np.uint8)
        if not len(raw) or len(raw) % RECORD_BYTES:
            raise InputError(f"{path} holds no whole records of {RECORD_BYTES} bytes: fetch it again")
        records.append(raw.reshape(-1, RECORD_BYTES))
    whole = np.concatenate(records)
    if (highest := int(whole[:, 0].max())) > 9:
        raise InputError(f"{folder} holds the label {highest}, but CIFAR-10 has 10 classes: fetch it again")
    return torch.from_numpy(whole[:, 1:].reshape(-1, *SHAPE).copy()), torch.from_numpy(whole[:, 0].astype(np.int64))
