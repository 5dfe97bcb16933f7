"""Labels for images that have none: by how many quarter turns an image was turned.

To tell, a network must see what is in the picture, and its features serve other ends too (Gidaris et al. 2018,
arXiv 1803.07728).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class QuarterTurns:
    """N images (N, C, H, W), H = W, in their four quarter turns, made when asked for: image i turned t times stands
    at 4 i + t and has the label t. `labels`: (4 N,) int64.
    """

    def __init__(self, images_u8: Tensor) -> None:
        self.images_u8 = images_u8
        self.labels = torch.arange(4).repeat(len(images_u8))

    def __len__(self) -> int:
        return 4 * len(self.images_u8)

    def __getitem__(self, chosen: slice | NDArray[np.int64]) -> Tensor:
        numbers = torch.arange(len(self))[chosen]
        turned = self.images_u8[numbers // 4]
        for t in (1, 2, 3):
            here = numbers % 4 == t
            turned[here] = turned[here].rot90(t, dims=(2, 3))
        return turned
