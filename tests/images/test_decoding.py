"""Image files of every kind to square 8-bit images; what cannot be decoded is refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.decoding import Decoding, image_suffixes, read_image, read_images, require_sizes

COLOUR, GREY = Decoding(8), Decoding(8, mode="grey")
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def hwc(path, decoding=COLOUR):
    return read_image(path, decoding).permute(1, 2, 0).numpy()


def refused(path, read=lambda path: read_image(path, COLOUR)):
    with pytest.raises(InputError) as refusal:
        read(path)
    message = str(refusal.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm", ".tga", ".jp2"])
def test_lossless_files_of_the_right_size_come_through_unchanged(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(PIXELS), **options)
    assert suffix in image_suffixes()
    assert np.array_equal(hwc(path), PIXELS)


def test_jpeg_is_what_pillow_makes_of_it(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.fromarray(PIXELS))
    assert np.array_equal(hwc(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize(("mode", "opened_as"), [("L", "L"), ("1", "1"), ("P", "P"), ("CMYK", "CMYK")])
def test_modes_become_the_colours_they_stand_for(tmp_path, mode, opened_as):
    image = Image.fromarray(PIXELS).convert(mode)
    path = saved(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), image)
    assert Image.open(path).mode == opened_as
    assert np.array_equal(hwc(path), np.asarray(image.convert("RGB")))


def test_cmyk_is_the_complement(tmp_path):
    inks = Image.new("CMYK", (8, 8), (255, 0, 100, 0))
    assert hwc(saved(tmp_path / "a.tif", inks))[0, 0].tolist() == [0, 255, 155]


def test_grey_is_luma_and_keeps_grey_levels(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    assert np.array_equal(hwc(saved(tmp_path / "l.png", Image.fromarray(ramp)), GREY)[:, :, 0], ramp)
    luma = hwc(saved(tmp_path / "c.png", Image.fromarray(PIXELS)), GREY)[:, :, 0]
    assert np.abs(luma - PIXELS @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.dstack([np.full((8, 8, 3), (200, 100, 0), np.uint8), np.full((8, 8), 255, np.uint8)])
    rgba[:4, :, 3] = 0
    rgba[4, :, 3] = 128
    for name in ("a.png", "a.webp", "a.tif"):
        rows = hwc(saved(tmp_path / name, Image.fromarray(rgba), **({"lossless": True} if "webp" in name else {})))
        assert (rows[:4] == 255).all()
        assert np.abs(rows[4].astype(int) - [227, 177, 127]).max() <= 1
        assert (rows[5:] == [200, 100, 0]).all()
    palette = Image.fromarray(np.repeat([[0], [1]], 4, axis=0).repeat(8, axis=1).astype(np.uint8), "P")
    palette.putpalette([9, 9, 9, 50, 60, 70])
    rows = hwc(saved(tmp_path / "p.png", palette, transparency=0))
    assert rows[0, 0].tolist() == [255, 255, 255]
    assert rows[7, 0].tolist() == [50, 60, 70]
    la = Image.merge("LA", [Image.new("L", (8, 8), 10), Image.new("L", (8, 8), 0)])
    assert (hwc(saved(tmp_path / "la.png", la), GREY) == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, name):
    levels = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    path = saved(tmp_path / name, Image.fromarray(levels))
    assert np.array_equal(hwc(path, GREY)[:, :, 0], levels >> 8)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_without_a_known_white_are_refused(tmp_path, dtype):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((8, 8), dtype)))
    assert refused(path) == "FILE holds 32-bit values, whose black and white are unknown: save it with 8 or 16 bits"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    quarters = np.zeros((8, 8, 3), np.uint8)
    quarters[:4, :4], quarters[:4, 4:], quarters[4:, :4] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = {
        1: quarters,
        2: quarters[:, ::-1],
        3: quarters[::-1, ::-1],
        4: quarters[::-1],
        5: quarters.transpose(1, 0, 2),
        6: np.rot90(quarters),
        7: quarters[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(quarters, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif, **options)
    assert np.abs(hwc(path).astype(int) - quarters).max() <= 3


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".png"])
def test_of_several_frames_the_first_counts(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    path = saved(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:])
    with Image.open(path) as opened:
        assert opened.n_frames == 3
    assert np.abs(hwc(path).astype(int) - [255, 0, 0]).max() <= 3


def test_the_first_picture_of_a_camera_file_counts(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:])
    assert np.abs(hwc(path).astype(int) - [255, 0, 0]).max() <= 3


def test_the_centre_square_is_cut_out(tmp_path):
    wide = np.zeros((8, 15, 3), np.uint8)
    wide[:, 3:11] = PIXELS
    assert np.array_equal(hwc(saved(tmp_path / "wide.png", Image.fromarray(wide))), PIXELS)
    tall = np.zeros((14, 8, 3), np.uint8)
    tall[3:11] = PIXELS
    assert np.array_equal(hwc(saved(tmp_path / "tall.png", Image.fromarray(tall))), PIXELS)


@pytest.mark.parametrize("name", ["lanczos", "bicubic", "bilinear", "box"])
def test_the_filter_is_the_one_named(tmp_path, name):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    path = saved(tmp_path / "a.png", image)
    expected = np.asarray(image.resize((8, 8), Image.Resampling[name.upper()]))
    assert np.array_equal(hwc(path, Decoding(8, resize_filter=name)), expected)
    if name == "box":
        means = np.asarray(image, float).reshape(8, 3, 8, 3, 3).mean(axis=(1, 3))
        assert np.abs(expected - means).max() <= 1


def test_images_stand_in_the_order_of_their_paths(tmp_path):
    paths = [saved(tmp_path / f"{i}.png", Image.new("L", (9, 9), 10 * i)) for i in range(5)]
    images = read_images(paths[::-1], GREY)
    assert images.dtype == torch.uint8
    assert images.shape == (5, 1, 8, 8)
    assert images[:, 0, 0, 0].tolist() == [40, 30, 20, 10, 0]
    assert read_images(paths, COLOUR).shape == (5, 3, 8, 8)


def test_a_suffix_does_not_decide_the_format(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.fromarray(PIXELS), format="PNG")
    assert np.array_equal(hwc(path), PIXELS)


def test_suffixes_are_of_formats_that_are_read():
    assert {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"} <= set(image_suffixes())
    assert not {".eps", ".pdf", ".h5", ".mpg", ".psd"} & set(image_suffixes())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".jp2"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8])
def test_a_file_cut_short_is_refused(tmp_path, suffix, share):
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(PIXELS.repeat(8, 0).repeat(8, 1)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refused(path)
    assert message.startswith("FILE cannot be read as an image (")
    assert message.endswith("): mend or remove it")


def test_a_text_file_with_the_suffix_of_an_image_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no image")
    for read in (lambda path: read_image(path, COLOUR), lambda path: require_sizes([path], COLOUR)):
        assert refused(path, read).startswith("FILE cannot be read as an image (cannot identify image file")


def test_sizes_that_do_not_do_are_refused_before_anything_is_decoded(tmp_path):
    sizes = {"a": (8, 8), "b": (9, 7), "c": (30, 20), "d": (7, 7)}
    paths = [saved(tmp_path / f"{name}.png", Image.new("L", size)) for name, size in sizes.items()]
    assert refused(paths[1], lambda _: require_sizes(paths, COLOUR)) == (
        "2 of 4 images smaller than image_size 8, the first FILE (9x7): "
        "remove them or lower data_preparation.image_size"
    )
    require_sizes([paths[0], paths[2]], COLOUR)
    assert refused(paths[2], lambda _: require_sizes([paths[0], paths[2]], Decoding(8, crop="none"))) == (
        "1 of 2 images not square, the first FILE (30x20): cut them square or set data_preparation.crop: centre"
    )


def test_what_is_done_is_said():
    assert str(Decoding(32)) == (
        "first frame, EXIF orientation applied, upper 8 of 16 bits, transparency on white, "
        "RGB without colour profiles, centre square, lanczos to 32x32"
    )
    assert "luma, no crop, box to 8x8" in str(Decoding(8, "none", "box", "grey"))
