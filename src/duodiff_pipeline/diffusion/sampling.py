"""Sampling: a denoiser and a solver turn noise into images, micro-batch by micro-batch."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .denoiser import Denoiser, classes_of
from .noise import NoiseSchedule
from .random import image_noise
from .solvers import Solver


@dataclass(frozen=True)
class Trace:
    """What a run of E evaluations over N images did.

    timesteps: (E,) float64; stages: (E,) int64, who served each evaluation; exit_depth: (E, N) int64, blocks;
    macs: (E, N) int64; seconds: (E,) float64, network and solver, padding included.
    """

    timesteps: NDArray[np.float64]
    stages: NDArray[np.int64]
    exit_depth: NDArray[np.int64]
    macs: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @property
    def nfe(self) -> int:
        return len(self.timesteps)

    @property
    def gmacs_per_image(self) -> float:
        return float(self.macs.sum(axis=0).mean() / 1e9)


@dataclass(frozen=True)
class Samples:
    """images: (N, C, H, W) float32 on the CPU, in the data's range [-1, 1] but not clipped."""

    images: Tensor
    trace: Trace


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    solver: Solver,
    noise: NoiseSchedule,
    shape_chw: tuple[int, int, int],
    image_indices: range,
    seed: int,
    micro_batch_images: int,
    device: torch.device | str = "cpu",
) -> Samples:
    """Generate the images with the given indices (a range of step 1).

    Image i always stands in the same, always full micro-batch i // micro_batch_images: images are bit-identical for
    any range that holds them and for any sharding, adaptive denoisers included. A class-conditional denoiser gets the
    labels of `image_labels`.

    Raises InputError where the range is empty or strided.
    """
    if not len(image_indices) or image_indices.step != 1:
        raise InputError(f"image indices {image_indices} must be a non-empty range of step 1")
    size = micro_batch_images
    batches = range(image_indices.start // size, (image_indices.stop - 1) // size + 1)
    pieces = [
        _sample_micro_batch(denoiser, solver, noise, shape_chw, range(b * size, (b + 1) * size), seed, device)
        for b in batches
    ]
    first = batches.start * size
    kept = slice(image_indices.start - first, image_indices.stop - first)
    traces = [piece.trace for piece in pieces]
    trace = Trace(
        timesteps=traces[0].timesteps,
        stages=traces[0].stages,
        exit_depth=np.concatenate([t.exit_depth for t in traces], axis=1)[:, kept],
        macs=np.concatenate([t.macs for t in traces], axis=1)[:, kept],
        seconds=np.sum([t.seconds for t in traces], axis=0),
    )
    return Samples(torch.cat([piece.images for piece in pieces])[kept], trace)


def image_labels(image_indices: range, classes: int) -> Tensor:
    """(N,) int64: image i has label i mod C, so that any run of images is spread over the classes evenly."""
    return torch.tensor(image_indices) % classes


def _sample_micro_batch(
    denoiser: Denoiser,
    solver: Solver,
    noise: NoiseSchedule,
    shape_chw: tuple[int, int, int],
    indices: range,
    seed: int,
    device: torch.device | str,
) -> Samples:
    run = solver.start(noise)
    classes = classes_of(denoiser)
    labels = image_labels(indices, classes).to(device) if classes else None
    x = image_noise(seed, indices, shape_chw, 0).to(device)
    predictions, seconds = [], []
    for i, timestep in enumerate(run.grid):
        step_noise = image_noise(seed, indices, shape_chw, i + 1).to(device) if run.stochastic else None
        started = _clock(device)
        prediction = denoiser.predict(x, timestep, labels)
        x = run.step(prediction.eps, i, x, step_noise, prediction.stage)
        seconds.append(_clock(device) - started)
        predictions.append(prediction)
    trace = Trace(
        timesteps=np.array(run.grid),
        stages=np.array([p.stage for p in predictions]),
        exit_depth=torch.stack([p.exit_depth for p in predictions]).cpu().numpy(),
        macs=torch.stack([p.macs for p in predictions]).cpu().numpy(),
        seconds=np.array(seconds),
    )
    return Samples(x.float().cpu(), trace)


def _clock(device: torch.device | str) -> float:
    """Seconds, after the device has finished what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
