"""What is measured beside the Fréchet distance: other metrics of the same features, and memorisation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from .against_reference import AgainstReference, MoreMetric
from .extractor import FeatureExtractor, extract_features
from .measure import FEATURE_BATCH_IMAGES, Measured
from .memorisation import Neighbours
from .reference import ReferenceStatistics


@dataclass(frozen=True, eq=False)
class RealImages:
    """train and held_out: (N, C, H, W) uint8; their features are extracted once, when first asked for."""

    extractor: FeatureExtractor
    reference: ReferenceStatistics
    train: Tensor
    held_out: Tensor

    def judge(self, generated: Measured, more: Sequence[MoreMetric] = ()) -> dict[str, float]:
        """kid and `more`; by features and by pixels, memorisation_… and same_nearest_… as in `Nearness`."""
        features = self._features.nearness(generated.features)
        pixels = self._pixels.nearness(_levels(generated.images))
        return {
            "kid": self._against.measure("kid", generated.features),
            **{metric: self._against.measure(metric, generated.features) for metric in more},
            "memorisation_features": features.share,
            "same_nearest_features": features.same_nearest,
            "memorisation_pixels": pixels.share,
            "same_nearest_pixels": pixels.same_nearest,
        }

    @cached_property
    def _features(self) -> Neighbours:
        return self._neighbours(lambda images: extract_features(self.extractor, images, FEATURE_BATCH_IMAGES))

    @cached_property
    def _pixels(self) -> Neighbours:
        return self._neighbours(_levels)

    @cached_property
    def _against(self) -> AgainstReference:
        return AgainstReference(self.reference.statistics, getattr(self._features, self.reference.sample_split))

    def _neighbours(self, rows: Callable[[Tensor], NDArray[Any]]) -> Neighbours:
        return Neighbours(rows(self.train), rows(self.held_out))


def _levels(images_u8: Tensor) -> NDArray[Any]:
    return images_u8.flatten(1).cpu().numpy()
