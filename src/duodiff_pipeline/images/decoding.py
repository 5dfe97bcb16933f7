"""Image files of any size and kind, by Pillow, to square 8-bit images of one size."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import InputError
from .crops import ALIGNED_CELEBA, CELEBA_BOXES, OWN_FILTERS, Crop, Filter, squared

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
    mode grey, luma (ITU-R 601-2); the crop, by resize_filter where it has none of its own, makes it a square of
    image_size pixels a side; see `crops`.
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
        square = {"centre": "centre square", "none": "no crop"}.get(self.crop, f"crop {self.crop}")
        resized = f"{OWN_FILTERS.get(self.crop, self.resize_filter)} to {self.image_size}x{self.image_size}"
        return (
            "first frame, EXIF orientation applied, upper 8 of 16 bits, transparency on white, "
            f"{colours}, {square}, {resized}"
        )

    def misfit(self, size: tuple[int, int]) -> tuple[str, str] | None:
        """Why an image of this width and height is refused, and the way out."""
        width, height = size
        if min(size) < self.image_size:  # enlarging invents pixels
            return f"smaller than image_size {self.image_size}", "remove them or lower data_preparation.image_size"
        if self.crop == "none" and width != height:
            return "not square", "cut them square or set data_preparation.crop: centre"
        if self.crop in CELEBA_BOXES and size != ALIGNED_CELEBA:
            aligned = "x".join(map(str, ALIGNED_CELEBA))
            return f"not {aligned}, as aligned CelebA has them", "set data_preparation.crop: centre or take that set"
        return None


def require_sizes(paths: Sequence[Path], decoding: Decoding) -> None:
    """Raises InputError where a file is no image or a `misfit`; sizes are in its first bytes, so this is quick."""
    found = dict[tuple[str, str], list[str]]()
    for path in paths:
        with _opened(path, path) as image:
            size = image.size
        if misfit := decoding.misfit(size):
            found.setdefault(misfit, []).append(f"{path} ({size[0]}x{size[1]})")
    for (what, way_out), shown in found.items():
        raise InputError(f"{len(shown)} of {len(paths)} images {what}, the first {shown[0]}: {way_out}")


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


def read_image(file: Path | BinaryIO, decoding: Decoding, name: object = None) -> Tensor:
    """One image (C, H, W) uint8; raises what `read_images` raises, and for a `misfit`; name: what messages call it."""
    name = file if name is None else name
    with _opened(file, name) as stored:
        if misfit := decoding.misfit(stored.size):
            raise InputError(f"{name} ({stored.width}x{stored.height}) is {misfit[0]}: {misfit[1]}")
        image = _on_white(_eight_bits(ImageOps.exif_transpose(stored), name, stored.format)).convert("RGB")
    if decoding.mode == "grey":
        image = image.convert("L")
    square = squared(image, decoding.image_size, decoding.crop, decoding.resize_filter)
    pixels = np.array(square).reshape(decoding.image_size, decoding.image_size, decoding.channels)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@contextmanager
def _opened(file: Path | BinaryIO, name: object) -> Iterator[Image.Image]:
    try:
        with Image.open(file, formats=_formats()) as image:
            yield image
    except InputError:
        raise
    except Exception as error:  # of damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} cannot be read as an image ({reason}): mend or remove it") from error


def _eight_bits(image: Image.Image, name: object, stored_format: str | None) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and stored_format == "PPM"):  # whose levels fill 16 bits
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(f"{name} holds 32-bit values, whose black and white are unknown: save it with 8 or 16 bits")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
