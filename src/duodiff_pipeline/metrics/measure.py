"""One measurement: generate images with a denoiser and take their Fréchet distance to the reference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import NoiseSchedule
from ..diffusion.sampling import Trace
from ..diffusion.sharding import Sampler
from ..diffusion.solvers import Solver
from ..diffusion.starts import Start
from ..images.examples import Examples
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

    examples: such as the denoisers learnt from. n_images: generated images each; the FID of fewer or more is another
    quantity. Seconds of a trace are those of all the sampler's devices together.
    """

    extractor: FeatureExtractor
    reference: ReferenceStatistics
    noise: NoiseSchedule
    examples: Examples
    n_images: int
    sampler: Sampler

    def warm_up(self, denoiser: Denoiser, solver: Solver) -> None:
        """A micro-batch on every device at few steps, so that what happens only once is not timed."""
        short = replace(solver, steps=min(solver.fewest_steps + 1, solver.steps))
        self.generate(denoiser, short, 0, range(self.sampler.devices * self.sampler.micro_batch_images))

    def measure(self, denoiser: Denoiser, solver: Solver, seed: int, start: Start | None = None) -> Measured:
        """Images 0..n-1 of `seed` and their distance to the reference; start: see `sample`."""
        images, trace = self.generate(denoiser, solver, seed, range(self.n_images), start)
        features = self.features(images)
        return Measured(images, features, self.fid(features), trace)

    def generate(
        self, denoiser: Denoiser, solver: Solver, seed: int, image_indices: range, start: Start | None = None
    ) -> tuple[Tensor, Trace]:
        """Those images of `seed`, (N, C, H, W) uint8; start: see `sample`. Only a micro-batch is held as floats."""
        images, traces = torch.empty(len(image_indices), *self.examples.image_chw, dtype=torch.uint8), []
        shape_chw, device, done = self.examples.shape_chw, self.sampler.device, 0
        for samples in self.sampler.sample(denoiser, solver, self.noise, shape_chw, image_indices, seed, start):
            images[done : done + len(samples.images)] = self.examples.to_images(samples.images, device)
            done += len(samples.images)
            traces.append(samples.trace)
        return images, Trace.joined(traces)

    def features(self, images_u8: Tensor) -> NDArray[np.float32]:
        """(N, D) of uint8 images (N, C, H, W)."""
        return extract_features(self.extractor, images_u8, FEATURE_BATCH_IMAGES)

    def fid(self, features: NDArray[np.float32]) -> float:
        """Distance of features (N, D) to the reference; comparable at the same N only."""
        return distance_of_features(features, self.reference.statistics)

    def rungs(self, shares: Sequence[float]) -> tuple[int, ...]:
        """See `rungs`."""
        return rungs(shares, self.n_images, self.sampler.micro_batch_images)


def rungs(shares: Sequence[float], n_images: int, micro_batch_images: int) -> tuple[int, ...]:
    """The images after each share of all, in whole micro-batches, and after all: rising, 2 or more."""
    whole = math.ceil(n_images / micro_batch_images)
    ends = {min(micro_batch_images * max(1, round(share * whole)), n_images) for share in shares}
    return tuple(sorted({end for end in ends if end > 1} | {n_images}))
