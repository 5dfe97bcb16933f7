"""Random numbers of the analyses: one counter-based stream for every purpose, no global state."""

import zlib

import numpy as np


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """A Philox generator that depends on (seed, purpose, index) alone: draws may be made in any order, or extended."""
    key = np.random.SeedSequence((seed, zlib.crc32(purpose.encode()), index))
    return np.random.Generator(np.random.Philox(key))
