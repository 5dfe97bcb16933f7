"""Random numbers that depend on a key and on nothing else."""

import hashlib

import numpy as np


def keyed_generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """A counter-based generator (Philox) of its own for every (seed, purpose, index)."""
    key = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
