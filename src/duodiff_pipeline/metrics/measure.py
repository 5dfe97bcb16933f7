"""One measurement: generate images with a denoiser and take their Fréchet distance to the reference."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import NoiseSchedule
from ..diffusion.sampling import Trace, sample
from ..diffusion.solvers import Solver
from ..diffusion.starts import SharedStarts
from ..images.pixels import to_uint8
from .extractor import FeatureExtractor, extract_features
from .frechet import frechet_distance_of
from .reference import ReferenceStatistics

FEATURE_BATCH_IMAGES = 256


@dataclass(frozen=True)
class Measured:
    """images: (N, C, H, W) uint8; their features (N, D); fid in squared feature units; trace of the sampling."""

    images: Tensor
    features: NDArray[np.float64]
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
        sample(denoiser, short, self.noise, self.shape_chw, range(1), 0, self.micro_batch_images, self.device)

    def measure(
        self,
        denoiser: Denoiser,
        solver: Solver,
        seed: int,
        starts: SharedStarts | None = None,
        served_by: Sequence[Hashable] = (),
    ) -> Measured:
        """Images 0..n-1 of `seed` and their distance to the reference; starts, served_by: see `sample`."""
        everything = range(self.n_images)
        images, features, trace = self.generate(denoiser, solver, seed, everything, starts, served_by)
        return Measured(images, features, self.fid(features), trace)

    def generate(
        self,
        denoiser: Denoiser,
        solver: Solver,
        seed: int,
        image_indices: range,
        starts: SharedStarts | None = None,
        served_by: Sequence[Hashable] = (),
    ) -> tuple[Tensor, NDArray[np.float64], Trace]:
        """Some images of `seed`, uint8 (N, C, H, W), their features (N, D) and the trace of their sampling."""
        samples = sample(
            denoiser,
            solver,
            self.noise,
            self.shape_chw,
            image_indices,
            seed,
            self.micro_batch_images,
            self.device,
            starts,
            served_by,
        )
        images = to_uint8(samples.images)
        return images, extract_features(self.extractor, images, FEATURE_BATCH_IMAGES), samples.trace

    def fid(self, features: NDArray[np.floating]) -> float:
        """Distance of features (N, D) to the reference; comparable at the same N only."""
        return frechet_distance_of(features, self.reference.statistics)

    def blocks(self, shares: Sequence[float]) -> tuple[int, ...]:
        """The images after each share of all, in whole micro-batches, and after all: rising, 2 or more."""
        size, whole = self.micro_batch_images, math.ceil(self.n_images / self.micro_batch_images)
        ends = {min(size * max(1, round(share * whole)), self.n_images) for share in shares}
        return tuple(sorted({end for end in ends if end > 1} | {self.n_images}))
