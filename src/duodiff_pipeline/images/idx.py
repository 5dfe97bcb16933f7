"""IDX files, the format of the MNIST family, gzipped or not (http://yann.lecun.com/exdb/mnist)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

PREFIXES = {"train": "train", "held_out": "t10k"}


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The uint8 array in an IDX file.

    Raises InputError, naming the file, where it is not an IDX file of that many dimensions or is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as gzip ({error}): fetch it again") from error
    # magic number: two zero bytes, 8 for unsigned bytes, the number of dimensions
    if raw[:4] != bytes([0, 0, 8, dimensions]):
        raise InputError(f"{path} is not an IDX file of unsigned bytes in {dimensions} dimensions")
    if len(raw) < 4 + 4 * dimensions:
        raise InputError(f"{path} is cut short: fetch it again")
    shape = [int(size) for size in np.frombuffer(raw, ">u4", dimensions, offset=4)]
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions)
    if len(values) != int(np.prod(shape)):
        raise InputError(f"{path} announces {int(np.prod(shape))} values but holds {len(values)}: fetch it again")
    return torch.from_numpy(values.reshape(shape).copy())


def read_idx_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, H, W) uint8 and labels (N,) int64 of the split train or held_out.

    Raises InputError where a file is missing (naming it) or cannot be read.
    """
    found = []
    for content, dimensions in (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1)):
        plain = folder / f"{PREFIXES[split]}-{content}"
        candidates = [plain, plain.with_name(plain.name + ".gz")]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise InputError(
                f"{plain}[.gz] is missing: data_preparation.folder must hold the four files of an MNIST-like set"
            )
        found.append(read_idx(path, dimensions))
    return found[0][:, None], found[1].long()
