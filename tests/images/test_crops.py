"""Every paper's crop against arithmetic of its own: box means, ramps that filters leave as they are, and floats."""

import numpy as np
import pytest
import torch
from PIL import Image

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.crops import squared
from duodiff_pipeline.images.decoding import Decoding, read_image, require_sizes


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cropped(pixels: np.ndarray, size: int, crop: str) -> np.ndarray:
    return np.array(squared(Image.fromarray(pixels), size, crop, "lanczos"))


def halved(pixels: np.ndarray) -> np.ndarray:
    """Means of squares of 2 x 2."""
    h, w, c = pixels.shape
    return pixels.astype(float).reshape(h // 2, 2, w // 2, 2, c).mean(axis=(1, 3))


def antialiased(pixels: np.ndarray, side: int, mode: str) -> np.ndarray:
    """By PyTorch in float64, whose antialiased filters are those of Pillow without its rounding in between."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    shrunk = torch.nn.functional.interpolate(x, (side, side), mode=mode, antialias=True, align_corners=False)
    return shrunk[0].permute(1, 2, 0).clamp(0, 255).numpy()


@pytest.mark.parametrize(("width", "height"), [(32, 32), (48, 32), (32, 56)])
def test_adm_halves_by_means_while_twice_as_large_and_cuts_out_the_middle(width, height):
    pixels = noise(width, height) // 16 * 16  # so that means of means are whole
    means = halved(halved(pixels))  # 32 to 8, which is the size wanted: nothing is left for the other filter
    h, w, _ = means.shape
    top, left = (h - 8) // 2, (w - 8) // 2
    np.testing.assert_array_equal(cropped(pixels, 8, "adm"), means[top : top + 8, left : left + 8])


def test_adm_makes_the_shorter_side_as_long_as_wanted_by_bicubic_before_it_crops():
    pixels = noise(33, 27)  # once halved it would be smaller than 2 x 12: 16 x 13, then 15 x 12
    by_box = np.array(Image.fromarray(pixels).resize((16, 13), Image.Resampling.BOX))
    x = torch.from_numpy(by_box).permute(2, 0, 1)[None].double()
    by_bicubic = torch.nn.functional.interpolate(x, (12, 15), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    expected = by_bicubic.clamp(0, 255).numpy()[:, 1:13]
    assert np.abs(cropped(pixels, 12, "adm") - expected).max() < 1


@pytest.mark.parametrize(
    ("crop", "left", "top", "side"), [("celeba_uvit", 25, 57, 128), ("celeba_duodiff", 0, 20, 178)]
)
def test_celeba_is_cut_where_each_paper_cuts_it_and_shrunk_by_means_of_triangles(crop, left, top, side):
    pixels = noise(178, 218)
    expected = antialiased(pixels[top : top + side, left : left + side], 64, "bilinear")
    assert np.abs(cropped(pixels, 64, crop) - expected).max() < 1.5  # Pillow rounds after each direction


@pytest.mark.parametrize(
    ("crop", "left", "top", "side"), [("celeba_uvit", 25, 57, 128), ("celeba_duodiff", 0, 20, 178)]
)
def test_of_a_ramp_every_pixel_shows_the_middle_of_what_it_covers(crop, left, top, side):
    columns, rows = np.meshgrid(np.arange(178), np.arange(218))
    found = cropped(np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8), 64, crop)
    middles = (np.arange(64) + 0.5) * side / 64 - 0.5
    inside = slice(2, -2)  # at the border a triangle is cut off
    assert np.abs(found[0, inside, 0] - (left + middles)[inside]).max() <= 0.51
    assert np.abs(found[inside, 0, 1] - (top + middles)[inside]).max() <= 0.51


def test_celeba_crops_refuse_faces_that_are_not_aligned(tmp_path):
    Image.new("RGB", (178, 217)).save(tmp_path / "face.png")
    decoding = Decoding(64, "celeba_uvit")
    for read in (
        lambda: read_image(tmp_path / "face.png", decoding),
        lambda: require_sizes([tmp_path / "face.png"], decoding),
    ):
        with pytest.raises(InputError, match="not 178x218, as aligned CelebA has them"):
            read()


def test_a_transform_names_the_crop_and_its_own_filter():
    assert str(Decoding(64, "adm")).endswith("RGB without colour profiles, crop adm, bicubic to 64x64")
    assert str(Decoding(64, "celeba_uvit")).endswith("crop celeba_uvit, bilinear to 64x64")
