"""Sampling: a denoiser and a solver turn noise into images, micro-batch by micro-batch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .denoiser import Denoiser, classes_of
from .noise import NoiseSchedule
from .random import image_noise
from .solvers import Solver
from .starts import Evaluation, Start, State

SamplingPrecision = Literal["float32", "bfloat16", "float16"]


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

    @classmethod
    def joined(cls, traces: Sequence["Trace"]) -> "Trace":
        """Of the same evaluations over more images; their seconds add up."""
        return cls(
            timesteps=traces[0].timesteps,
            stages=traces[0].stages,
            exit_depth=np.concatenate([t.exit_depth for t in traces], axis=1),
            macs=np.concatenate([t.macs for t in traces], axis=1),
            seconds=np.sum([t.seconds for t in traces], axis=0),
        )


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
    start: Start | None = None,
    precision: SamplingPrecision = "float32",
) -> Samples:
    """Generate the images with the given indices (a range of step 1).

    Image i always stands in the same, always full micro-batch i // micro_batch_images: images are bit-identical for
    any range that holds them and for any sharding, adaptive denoisers included. A class-conditional denoiser gets the
    labels of `image_labels`.

    start: what earlier runs left, to go on from. Of evaluations that are not made again the trace has the seconds they
    once took. precision: in which the networks are evaluated; all else is done in float32.

    Raises InputError where the range is empty or strided.
    """
    size = micro_batch_images
    batches = [some.start // size for some in micro_batches(image_indices, size)]
    pieces = [
        _sample_micro_batch(
            denoiser, solver, noise, shape_chw, range(b * size, (b + 1) * size), seed, device, start, precision
        )
        for b in batches
    ]
    first = batches[0] * size
    kept = slice(image_indices.start - first, image_indices.stop - first)
    whole = Trace.joined([piece.trace for piece in pieces])
    trace = replace(whole, exit_depth=whole.exit_depth[:, kept], macs=whole.macs[:, kept])
    return Samples(torch.cat([piece.images for piece in pieces])[kept], trace)


def micro_batches(image_indices: range, size: int) -> list[range]:
    """The images of a range by the micro-batch in which they stand; raises InputError where it is empty or strided."""
    if not len(image_indices) or image_indices.step != 1:
        raise InputError(f"image indices {image_indices} must be a non-empty range of step 1")
    first, stop = image_indices.start, image_indices.stop
    return [range(max(b, first), min(b + size, stop)) for b in range(first // size * size, stop, size)]


def image_labels(image_indices: range, classes: int, device: torch.device | str = "cpu") -> Tensor | None:
    """(N,) int64: image i has label i mod C, so that any run of images is spread over the classes evenly.

    None for no classes, of an unconditional denoiser.
    """
    return (torch.tensor(image_indices) % classes).to(device) if classes else None


def evaluated_in(precision: SamplingPrecision, device: torch.device | str) -> torch.autocast:
    """Networks within are evaluated in that precision."""
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(torch.device(device).type, dtype, enabled=precision != "float32")


def _sample_micro_batch(
    denoiser: Denoiser,
    solver: Solver,
    noise: NoiseSchedule,
    shape_chw: tuple[int, int, int],
    indices: range,
    seed: int,
    device: torch.device | str,
    start: Start | None,
    precision: SamplingPrecision,
) -> Samples:
    depends_on = (solver, noise, shape_chw, indices, seed, str(device), precision)
    state = start.recall(depends_on) if start else None
    if state is None:
        state = State(image_noise(seed, indices, shape_chw, 0).to(device), solver.start(noise), ())
    run, labels = state.run, image_labels(indices, classes_of(denoiser), device)
    for i in range(len(state.evaluations), len(run.grid)):
        step_noise = image_noise(seed, indices, shape_chw, i + 1).to(device) if run.stochastic else None
        started = _clock(device)
        with evaluated_in(precision, device):
            prediction = denoiser.predict(state.x, run.grid[i], labels)
        x = run.step(prediction.eps.to(state.x.dtype), i, state.x, step_noise, prediction.stage)
        made = Evaluation(prediction.stage, prediction.exit_depth, prediction.macs, _clock(device) - started)
        state = State(x, run, (*state.evaluations, made))
        if start:
            start.keep(depends_on, state)
    trace = Trace(
        timesteps=np.array(run.grid),
        stages=np.array([e.stage for e in state.evaluations]),
        exit_depth=torch.stack([e.exit_depth for e in state.evaluations]).cpu().numpy(),
        macs=torch.stack([e.macs for e in state.evaluations]).cpu().numpy(),
        seconds=np.array([e.seconds for e in state.evaluations]),
    )
    return Samples(state.x.float().cpu(), trace)


def _clock(device: torch.device | str) -> float:
    """Seconds, after the device has finished what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
