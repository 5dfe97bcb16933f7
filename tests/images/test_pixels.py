import numpy as np
import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pixels import from_uint8, grid_hwc, shrunk, to_uint8


def test_every_level_survives_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    seen = from_uint8(levels)
    assert seen.dtype == torch.float32
    assert (seen.min(), seen.max()) == (-1, 1)
    assert torch.equal(to_uint8(seen), levels)


def test_to_uint8_clips_and_rounds_to_the_nearest_level():
    x = torch.tensor([-7.0, -1.0, 0.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 1.0, 3.5])
    assert to_uint8(x).tolist() == [0, 0, 128, 0, 1, 255, 255]


def test_grid_places_images_row_by_row_on_white():
    images = torch.arange(5 * 2 * 3 * 3).view(5, 2, 3, 3).to(torch.uint8)
    grid = grid_hwc(images, columns=2, gap=1)
    assert grid.shape == (3 * 3 + 2, 2 * 3 + 1, 2)
    covered = torch.zeros(grid.shape[:2], dtype=torch.bool)
    for i in range(5):
        top, left = i // 2 * 4, i % 2 * 4
        covered[top : top + 3, left : left + 3] = True
        for y, x, c in np.ndindex(3, 3, 2):
            assert grid[top + y, left + x, c] == images[i, c, y, x]
    assert (grid[~covered] == 255).all()


def test_shrunk_pixels_are_means_of_squares():
    images = torch.tensor([[0, 10, 255, 255], [20, 30, 255, 255], [1, 1, 0, 1], [1, 2, 0, 1]], dtype=torch.uint8)
    assert shrunk(images.view(1, 1, 4, 4), 2).tolist() == [[[[15, 255], [1, 0]]]]  # 1.25 and 0.5, halves to even
    assert shrunk(images.view(1, 1, 4, 4), 4).flatten().tolist() == images.flatten().tolist()
    with pytest.raises(InputError, match="image_size 3 does not divide the 4 pixels a side"):
        shrunk(images.view(1, 1, 4, 4), 3)
