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
from .frechet import GaussianStatistics, frechet_distance
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

    def measure(self, denoiser: Denoiser, solver: Solver, seed: int, start: Start | None = None) -> Measured:
        """Images 0..n-1 of `seed` and their distance to the reference; start: see `sample`."""
        samples = sample(
            denoiser,
            solver,
            self.noise,
            self.shape_chw,
            range(self.n_images),
            seed,
            self.micro_batch_images,
            self.device,
            start,
        )
        images = to_uint8(samples.images)
        features = extract_features(self.extractor, images, FEATURE_BATCH_IMAGES)
        fid = frechet_distance(GaussianStatistics.from_features(features), self.reference.statistics)
        return Measured(images, features, fid, samples.trace)
