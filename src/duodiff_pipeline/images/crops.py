"""From a picture of any shape to a square one: the largest square, or what a paper's code takes, by name.

    centre            the largest square in the middle
    none              the picture is square already
    adm               ADM's (arXiv 2105.05233) for ImageNet, which U-ViT's code takes over: halved by box means while it
                      is twice as large as wanted, its shorter side made as long as wanted, the middle cut out
    celeba_uvit       U-ViT's of aligned CelebA (arXiv 2209.12152): 128 pixels a side around column 89 and row 121
    celeba_duodiff    DuoDiff's of aligned CelebA (arXiv 2410.09633): the 178 pixels in the middle, which show more
                      around the face; its code resizes floats, these are rounded to whole levels

Those of a paper have a filter of their own, Pillow's, which is as wide as the shrinking asks for: bicubic for adm,
bilinear for CelebA.
"""

from typing import Literal

from PIL import Image

Crop = Literal["centre", "none", "adm", "celeba_uvit", "celeba_duodiff"]
Filter = Literal["lanczos", "bicubic", "bilinear", "box"]

ALIGNED_CELEBA = (178, 218)  # width and height
# left, top, right, bottom in aligned CelebA
CELEBA_BOXES = {"celeba_uvit": (89 - 64, 121 - 64, 89 + 64, 121 + 64), "celeba_duodiff": (0, 20, 178, 198)}
OWN_FILTERS: dict[str, Filter] = {"adm": "bicubic", **dict.fromkeys(CELEBA_BOXES, "bilinear")}


def squared(picture: Image.Image, size: int, crop: Crop, resize_filter: Filter) -> Image.Image:
    """The picture as a square of `size` pixels; a crop with a filter of its own does not look at `resize_filter`."""
    if crop == "adm":
        return _adm(picture, size)
    box = CELEBA_BOXES.get(crop) or _middle(picture, min(picture.size))
    return _resized(picture.crop(box), (size, size), OWN_FILTERS.get(crop, resize_filter))


def _adm(picture: Image.Image, size: int) -> Image.Image:
    while min(picture.size) >= 2 * size:
        width, height = picture.size
        picture = _resized(picture, (width // 2, height // 2), "box")
    scale = size / min(picture.size)
    width, height = picture.size
    picture = _resized(picture, (round(width * scale), round(height * scale)), OWN_FILTERS["adm"])
    return picture.crop(_middle(picture, size))


def _middle(picture: Image.Image, side: int) -> tuple[int, int, int, int]:
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return left, top, left + side, top + side


def _resized(picture: Image.Image, size: tuple[int, int], resize_filter: Filter) -> Image.Image:
    return picture.resize(size, Image.Resampling[resize_filter.upper()])
