"""One measurement: generate images with a denoiser and take their Fréchet distance to the reference."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import NoiseSchedule
from ..diffusion.sampling import Trace, sample
from ..diffusion.solvers import Solver
from ..diffusion.starts import Start
from ..images.pixels import to_uint8
from .extractor import FeatureExtractor, extract_features
from .frechet import distance_of_features
from .reference import ReferenceStatistics

FEATURE_BATCH_IMAGES = 256


@dataclass(frozen=True)
class Measured:
    """images: (N, C, H, W) uint8; their features (N, D); fid in squared feature units; trace of the sampling.

    That is N (C H W + 4 D + 16 evaluations) bytes: 0.6 GB of 50,000 colour images of 32 x 32 pixels, D = 2048 and 50
    evaluations.
    """

    images: Tensor
    features: NDArray[np.float32]
    fid: float
    trace: Trace

    @property
    def seconds_per_image(self) -> float:
        """Seconds of network and solver for one image, at the micro-batch of the run."""
        return float(self.trace.seconds.sum()) / len(self.images)


@dataclass(frozen=True)
class Meter:
    """What is the same for every measurement that shall compare.

    n_images: generated images each; the FID of fewer or more is another quantity.
    """

    extractor: FeatureExtractor
    reference: ReferenceStatistics
    noise: NoiseSchedule
    shape_chw: tuple[int, int, int]
    n_images: int
    micro_batch_images: int
    device: torch.device | str

    def warm_up(self, denoiser: Denoiser, solver: Solver) -> None:
        """One micro-batch at few steps, so that what happens only once is not timed."""
        short = replace(solver, steps=min(solver.fewest_steps + 1, solver.steps))
        replace(self, n_images=1).generate(denoiser, short, 0)

    def measure(self, denoiser: Denoiser, solver: Solver, seed: int, start: Start | None = None) -> Measured:
        """Images 0..n-1 of `seed` and their distance to the reference; start: see `sample`."""
        images, trace = self.generate(denoiser, solver, seed, start)
        features = extract_features(self.extractor, images, FEATURE_BATCH_IMAGES)
        return Measured(images, features, distance_of_features(features, self.reference.statistics), trace)

    def generate(
        self, denoiser: Denoiser, solver: Solver, seed: int, start: Start | None = None
    ) -> tuple[Tensor, Trace]:
        """Images 0..n-1 of `seed`, (n, C, H, W) uint8; start: see `sample`. Only a micro-batch is held as floats."""
        images, traces = torch.empty(self.n_images, *self.shape_chw, dtype=torch.uint8), []
        size = self.micro_batch_images
        for first in range(0, self.n_images, size):
            some = range(first, min(first + size, self.n_images))
            samples = sample(denoiser, solver, self.noise, self.shape_chw, some, seed, size, self.device, start)
            images[some.start : some.stop] = to_uint8(samples.images)
            traces.append(samples.trace)
        return images, Trace.joined(traces)
