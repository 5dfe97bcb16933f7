"""Between stored pixels, uint8 0..255, and what the networks see, float32 in [-1, 1]."""

import torch
from torch import Tensor


def to_uint8(x_nchw: Tensor) -> Tensor:
    """Images in [-1, 1] to uint8, clipped and rounded."""
    return ((x_nchw.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_uint8(x_nchw: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1]."""
    return x_nchw.float() / 127.5 - 1


def grid_hwc(images_u8: Tensor, columns: int = 10, gap: int = 1) -> Tensor:
    """Images (N, C, H, W) uint8 side by side on white, row by row: (height, width, C) uint8."""
    n, c, h, w = images_u8.shape
    rows = -(-n // columns)
    canvas = torch.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 255, dtype=torch.uint8)
    for i, image in enumerate(images_u8):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        canvas[top : top + h, left : left + w] = image.permute(1, 2, 0)
    return canvas
