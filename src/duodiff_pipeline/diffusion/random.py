"""Counter-based randomness: every draw is a pure function of (seed, purpose, indices).

No stream is shared, so a result depends neither on batch size nor on the order of work nor on how it is sharded.
"""

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def keyed_generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A generator of its own for (seed, purpose, up to three indices): Philox with those as key and counter."""
    counter = [0, *indices, *[0] * (3 - len(indices))]  # the first word counts the draws
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(purpose.encode())], counter=counter))


def keyed_torch_generator(seed: int, purpose: str) -> torch.Generator:
    """A torch generator for the weights of a network, keyed by (seed, purpose)."""
    return torch.Generator().manual_seed(int(keyed_generator(seed, purpose).integers(2**63)))


def image_noise(seed: int, image_indices: Iterable[int], shape_chw: tuple[int, ...], evaluation: int) -> Tensor:
    """Standard normal noise (N, C, H, W) float32, keyed by (seed, image index, evaluation index).

    The initial noise of an image is that of evaluation 0; the noise that a stochastic solver adds after
    evaluation i is that of i + 1.
    """
    draws = [
        keyed_generator(seed, "sampling", i, evaluation).standard_normal(shape_chw, np.float32) for i in image_indices
    ]
    return torch.from_numpy(np.stack(draws))
