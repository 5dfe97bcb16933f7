"""What networks learn from, and the one door from what a sampler makes of them to images."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def spread(count: int, n: int) -> Tensor:
    """n of the indices 0..count-1, or all where there are not as many, evenly: in a set by classes, of all classes."""
    n = min(n, count)
    return torch.arange(n) * count // n


class Examples(Protocol):
    """N examples of one split, of shape (C, H, W) as networks see them: an `ImagePack` or a `LatentPack`."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, 0..classes-1."""

    @property
    def shape_chw(self) -> tuple[int, int, int]: ...

    @property
    def image_chw(self) -> tuple[int, int, int]:
        """(C, H, W) of their images."""

    @property
    def classes(self) -> int: ...

    @property
    def sha256(self) -> str:
        """Identifies them, wherever the file lies."""

    def __len__(self) -> int: ...

    def x0(self, indices: Tensor, rng: np.random.Generator, mirrored: Tensor | None = None) -> Tensor:
        """Examples (n, C, H, W) float32 at indices (n,), those whose flag in `mirrored` (n,) is set being of the
        mirrored image; what they leave to chance is drawn from `rng`.
        """

    def rows(self, n: int | None = None) -> NDArray[Any]:
        """All of them, or n spread evenly: (n, C H W), uint8 levels of images or float32 latents without chance."""

    def to_images(self, x_nchw: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """What a sampler made, float (n, C, H, W), as uint8 images (n, *image_chw) on the CPU; decoded on `device`."""
