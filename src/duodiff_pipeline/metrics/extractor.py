"""The contract of feature extractors, and features of many images."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .quarter_turns import QuarterTurns


class FeatureExtractor(Protocol):
    """Maps uint8 images (N, C, H, W) to float features (N, D), each image for itself.

    Records identify it by `name` and by `sha256`, which covers its weights.
    """

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def __call__(self, images_u8: Tensor) -> Any: ...


def extract_features(
    extractor: FeatureExtractor, images_u8: Tensor | QuarterTurns, batch_images: int
) -> NDArray[np.float64]:
    """Features (N, D) float64 of uint8 images (N, C, H, W).

    Every batch has `batch_images` images, the last one padded with zeros: matrix kernels round differently for
    different shapes, and the features of an image must not depend on how many others come with it.

    Raises ValueError where there is no image.
    """
    if len(images_u8) == 0:
        raise ValueError("there are no images to extract features from")
    chunks = []
    with torch.inference_mode():
        for start in range(0, len(images_u8), batch_images):
            batch = images_u8[start : start + batch_images]
            padding = batch.new_zeros(batch_images - len(batch), *batch.shape[1:])
            chunks.append(extractor(torch.cat([batch, padding]))[: len(batch)].double().cpu().numpy())
    return np.concatenate(chunks)


def require_finite(features: NDArray[np.floating]) -> None:
    """Raise ValueError, saying how many images are concerned, where features (N, D) are not finite."""
    bad = int((~np.isfinite(features)).any(axis=1).sum())
    if bad:
        raise ValueError(f"the features of {bad} of {len(features)} images are not finite")
