"""Rows of a file that grows, mapped into memory: for what is larger than memory, and goes on after a kill."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..files import writing


@dataclass(frozen=True)
class RowFile:
    """Rows of one shape and type, one behind the other without a header; a row that was cut short does not count."""

    path: Path
    shape: tuple[int, ...]
    dtype: type[np.uint8] | type[np.float32]

    @property
    def row_bytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def __len__(self) -> int:
        return self.path.stat().st_size // self.row_bytes if self.path.is_file() else 0

    def append(self, rows: NDArray[np.generic]) -> None:
        """Rows (N, *shape); raises InputError where the system refuses them."""
        assert (rows.shape[1:], rows.dtype) == (self.shape, np.dtype(self.dtype))
        with writing(self.path), self.path.open("ab") as file:
            file.truncate(len(self) * self.row_bytes)
            file.write(np.ascontiguousarray(rows).data)

    def mapped(self) -> Tensor:
        """All rows (N, *shape), read when they are looked at; what is written to them stays in memory."""
        n = len(self)
        if not n:
            return torch.from_numpy(np.empty((0, *self.shape), self.dtype))
        return torch.from_numpy(np.memmap(self.path, self.dtype, "c", shape=(n, *self.shape)))
