"""The contract of feature extractors, and features of many images."""

from pathlib import Path
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

    def to(self, device: torch.device | str) -> Any:
        """Move it; it takes images from wherever they are."""

    def save(self, path: Path) -> None: ...


def extract_features(
    extractor: FeatureExtractor, images_u8: Tensor | QuarterTurns, batch_images: int
) -> NDArray[np.float32]:
    """Features (N, D) float32 of uint8 images (N, C, H, W).

    Every batch has `batch_images` images, the last one padded with zeros: matrix kernels round differently for
    different shapes, and the features of an image must not depend on how many others come with it.

    Raises ValueError where there is no image.
    """
    n = len(images_u8)
    if n == 0:
        raise ValueError("there are no images to extract features from")
    features = np.empty((0, 0), np.float32)
    with torch.inference_mode():
        for start in range(0, n, batch_images):
            batch = images_u8[start : start + batch_images]
            padding = batch.new_zeros(batch_images - len(batch), *batch.shape[1:])
            found = extractor(torch.cat([batch, padding]))[: len(batch)].float().cpu().numpy()
            if start == 0:
                features = np.empty((n, found.shape[1]), np.float32)
            features[start : start + len(batch)] = found
    return features
