import numpy as np
import torch

from duodiff_pipeline.images.pixels import from_uint8, grid_hwc, to_uint8


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
