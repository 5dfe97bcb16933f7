"""Between stored pixels, uint8 0..255, and what the networks see, float32 in [-1, 1]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError


def to_uint8(x_nchw: Tensor) -> Tensor:
    """Images in [-1, 1] to uint8, clipped and rounded."""
    return ((x_nchw.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_uint8(x_nchw: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1]."""
    return x_nchw.float() / 127.5 - 1


def shrunk(x_nchw: Tensor, side: int) -> Tensor:
    """uint8 images as uint8 ones of that side, every pixel the mean of a square of them; the same side leaves them be.

    Raises InputError where the side does not divide theirs.
    """
    if x_nchw.shape[-1] == side:
        return x_nchw
    if x_nchw.shape[-1] % side:
        raise InputError(f"image_size {side} does not divide the {x_nchw.shape[-1]} pixels a side that images have")
    return F.avg_pool2d(x_nchw.float(), x_nchw.shape[-1] // side).round().to(torch.uint8)


def grid_hwc(images_u8: Tensor, columns: int = 10, gap: int = 1) -> Tensor:
    """Images (N, C, H, W) uint8 side by side on white, row by row: (height, width, C) uint8."""
    n, c, h, w = images_u8.shape
    rows = -(-n // columns)
    canvas = torch.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 255, dtype=torch.uint8)
    for i, image in enumerate(images_u8):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        canvas[top : top + h, left : left + w] = image.permute(1, 2, 0)
    return canvas
