"""Image files of any size and kind, by Pillow, to square 8-bit images of one size."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import InputError

Crop = Literal["centre", "none"]
Filter = Literal["lanczos", "bicubic", "bilinear", "box"]
Mode = Literal["colour", "grey"]

# Formats of pictures. Of Pillow's others, some need a foreign program, some hold no picture Pillow can decode.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_SECONDS_BETWEEN_LINES = 10

logger = logging.getLogger(__name__)


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow reads."""
    Image.init()  # most are loaded only when asked for, and never where `Image.open` is given formats
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> tuple[str, ...]:
    """The suffixes, lower case with their dot, of the formats that are read."""
    return tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in _formats()))


@dataclass(frozen=True)
class Decoding:
    """How a file becomes an image (C, H, W) uint8, H = W = image_size.

    In this order: the first frame is taken; the EXIF orientation is applied; of 16 bits the upper 8 are kept;
    transparency is laid on white; colours become RGB by Pillow's formulas (colour profiles are not applied) and, for
    mode grey, luma (ITU-R 601-2); crop centre cuts out the largest square in the middle, none refuses what is not
    square; resize_filter makes it image_size pixels a side.
    """

    image_size: int
    crop: Crop = "centre"
    resize_filter: Filter = "lanczos"
    mode: Mode = "colour"

    @property
    def channels(self) -> int:
        return 3 if self.mode == "colour" else 1

    def __str__(self) -> str:
        colours = "RGB without colour profiles" if self.mode == "colour" else "ITU-R 601-2 luma"
        square = "centre square" if self.crop == "centre" else "no crop"
        return (
            "first frame, EXIF orientation applied, upper 8 of 16 bits, transparency on white, "
            f"{colours}, {square}, {self.resize_filter} to {self.image_size}x{self.image_size}"
        )


def require_sizes(paths: Sequence[Path], decoding: Decoding) -> None:
    """Raises InputError where a file is no image, smaller than the result, since enlarging invents pixels, or not
    square where nothing is cropped; sizes are in a file's first bytes, so this is quick.
    """
    small, oblong = list[str](), list[str]()
    for path in paths:
        with _opened(path) as image:
            width, height = image.size
        shown = f"{path} ({width}x{height})"
        if min(width, height) < decoding.image_size:
            small.append(shown)
        if width != height:
            oblong.append(shown)
    if small:
        what = f"{len(small)} of {len(paths)} images smaller than image_size {decoding.image_size}"
        raise InputError(f"{what}, the first {small[0]}: remove them or lower data_preparation.image_size")
    if oblong and decoding.crop == "none":
        what = f"{len(oblong)} of {len(paths)} images not square"
        raise InputError(f"{what}, the first {oblong[0]}: cut them square or set data_preparation.crop: centre")


def read_images(paths: Sequence[Path], decoding: Decoding) -> Tensor:
    """Images (N, C, H, W) uint8 in the order of `paths`, decoded one by one.

    Raises InputError, naming the file, where one is damaged, cut short, or of values or colours without a defined
    meaning.
    """
    size = decoding.image_size
    images = torch.empty(len(paths), decoding.channels, size, size, dtype=torch.uint8)
    started = said = time.perf_counter()
    for i, path in enumerate(paths):
        images[i] = read_image(path, decoding)
        now = time.perf_counter()
        if now - said > _SECONDS_BETWEEN_LINES:
            left = (now - started) / (i + 1) * (len(paths) - i - 1)
            logger.info("image %d of %d, about %.0f s left", i + 1, len(paths), left)
            said = now
    return images


def read_image(path: Path, decoding: Decoding) -> Tensor:
    """One image (C, H, W) uint8; raises what `read_images` raises."""
    with _opened(path) as stored:
        image = _on_white(_eight_bits(ImageOps.exif_transpose(stored), path, stored.format)).convert("RGB")
    if decoding.mode == "grey":
        image = image.convert("L")
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    resized = square.resize(
        (decoding.image_size, decoding.image_size), Image.Resampling[decoding.resize_filter.upper()]
    )
    pixels = np.array(resized).reshape(decoding.image_size, decoding.image_size, decoding.channels)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_formats()) as image:
            yield image
    except InputError:
        raise
    except Exception as error:  # of damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as an image ({reason}): mend or remove it") from error


def _eight_bits(image: Image.Image, path: Path, stored_format: str | None) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and stored_format == "PPM"):  # whose levels fill 16 bits
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(f"{path} holds 32-bit values, whose black and white are unknown: save it with 8 or 16 bits")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
