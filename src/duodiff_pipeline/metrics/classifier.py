"""A small image classifier whose penultimate layer is the feature extractor of small datasets.

Features of a network trained on the dataset itself see what a network trained on photographs cannot see in
8 x 8 digits; the price is that values compare only where `sha256` is the same.

Shapes: N images, C channels, H = W = image_size, D = features, K = classes.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..diffusion.random import keyed_generator, keyed_torch_generator
from ..files import content_sha256, load_tensors, save_tensors
from ..images.pixels import from_uint8
from .extractor import extract_features
from .quarter_turns import QuarterTurns

KIND = "feature classifier"


@dataclass(frozen=True)
class ClassifierConfig:
    """Architecture of a `FeatureClassifier`, and whether it learns the images' classes or their quarter turns.

    `width` is the number of channels of its first convolution.
    """

    channels: int
    image_size: int
    classes: int
    features: int = 64
    width: int = 32
    learns: Literal["classes", "quarter_turns"] = "classes"


class FeatureClassifier(nn.Module):
    """Convolutions that halve the side until it is at most 4, a layer of D features, a linear head.

    Called on uint8 images (N, C, H, W) it returns their features (N, D) float32; keeps the `FeatureExtractor` contract.
    There is no normalisation over the batch: an image has the same features in any company. SiLU, because ReLU left
    a quarter of 64 features of digits at zero for every image.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        side, width = config.image_size, config.width
        layers: list[nn.Module] = [nn.Conv2d(config.channels, width, 3, padding=1), nn.SiLU()]
        while side > 4:
            wider = min(2 * width, 4 * config.width)
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.SiLU()]
            side, width = math.ceil(side / 2), wider
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side**2, config.features), nn.SiLU())
        self.head = nn.Linear(config.features, config.classes)

    def init_weights(self, generator: torch.Generator) -> None:
        """Fill every parameter from `generator`: He's normal matrices, biases of zero."""
        for parameter in self.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)

    def forward(self, images_u8: Tensor) -> Tensor:
        """Features (N, D) float32 of uint8 images (N, C, H, W); raises ValueError for images of another kind."""
        c = self.config
        expected = (c.channels, c.image_size, c.image_size)
        if images_u8.dtype != torch.uint8 or images_u8.shape[1:] != expected:
            raise ValueError(
                f"this classifier takes torch.uint8 images of shape {expected},"
                f" not {images_u8.dtype} of shape {tuple(images_u8.shape[1:])}"
            )
        features: Tensor = self.body(from_uint8(images_u8.to(self.head.weight.device)))
        return features

    def logits(self, images_u8: Tensor) -> Tensor:
        """(N, K) float32 of uint8 images (N, C, H, W)."""
        logits: Tensor = self.head(self(images_u8))
        return logits

    @torch.inference_mode()
    def share_named(self, features: NDArray[np.float32], labels: Tensor) -> float:
        """Share (0..1) of images with features (N, D) whose largest logit is that of their label (N,)."""
        logits = self.head(torch.from_numpy(features).to(self.head.weight.device)).cpu()
        return float((logits.argmax(dim=1) == labels).double().mean())

    @property
    def name(self) -> str:
        c = self.config
        kind = "classifier" if c.learns == "classes" else "turn_classifier"
        return f"{kind}_{c.channels}x{c.image_size}x{c.image_size}_{c.features}"

    @property
    def sha256(self) -> str:
        """Of architecture and weights, in hexadecimal."""
        return content_sha256(asdict(self.config), self.state_dict())

    def save(self, path: Path) -> None:
        """Write architecture and weights to one safetensors file."""
        save_tensors(path, KIND, asdict(self.config), self.state_dict())

    @classmethod
    def load(cls, path: Path) -> "FeatureClassifier":
        """The classifier that `save` wrote; raises what `load_tensors` raises."""
        config, tensors = load_tensors(path, KIND)
        classifier = cls(ClassifierConfig(**config))
        classifier.load_state_dict(tensors)
        return classifier


def train_classifier(
    images_u8: Tensor | QuarterTurns,
    labels: Tensor,
    config: ClassifierConfig,
    steps: int,
    batch_images: int,
    learning_rate: float,
    seed: int,
) -> FeatureClassifier:
    """A classifier trained on uint8 images (N, C, H, W) with labels (N,) int64 in 0..K-1.

    Adam on the cross entropy; the learning rate falls from `learning_rate` to 0 along half a cosine. Initial weights
    and batches depend on `seed` alone; the last bits of the weights, and so sha256, on PyTorch's number of threads too.

    Raises ValueError where images and labels differ in number or a label is out of range.
    """
    if len(images_u8) != len(labels):
        raise ValueError(f"{len(images_u8)} images have {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= config.classes:
        raise ValueError(f"labels {labels.min()}..{labels.max()} are not all within 0..{config.classes - 1}")
    classifier = FeatureClassifier(config)
    classifier.init_weights(keyed_torch_generator(seed, "weights of the classifier"))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = keyed_generator(seed, "classifier batch", step).integers(0, len(images_u8), batch_images)
        loss = F.cross_entropy(classifier.logits(images_u8[batch]), labels[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        decay.step()
    return classifier


def accuracy(
    classifier: FeatureClassifier, images_u8: Tensor | QuarterTurns, labels: Tensor, batch_images: int
) -> float:
    """Share (0..1) of uint8 images (N, C, H, W) that it gives their label (N,)."""
    return classifier.share_named(extract_features(classifier, images_u8, batch_images), labels)
