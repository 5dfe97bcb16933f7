"""Sampling on one device, or shared among processes with a device each."""

from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from ..processes import Workers, packed, unpacked
from .denoiser import Denoiser
from .noise import NoiseSchedule
from .sampling import Samples, SamplingPrecision, micro_batches, sample
from .solvers import Solver
from .starts import SharedStarts, Start


class Sampler:
    """Draws images, micro-batch by micro-batch: on `device`, or on `devices` of its kind.

    Images are the same bit for bit, for a micro-batch never knows of another. With several devices each has a process,
    which begins when it is first needed and ends with this object, and the b-th micro-batch goes always to the same
    one; there stay the states that later runs start from, `starts_bytes` in all.
    """

    def __init__(
        self,
        device: str,
        micro_batch_images: int,
        precision: SamplingPrecision = "float32",
        devices: int = 1,
        starts_bytes: int = 0,
    ) -> None:
        self.device, self.micro_batch_images, self.precision = device, micro_batch_images, precision
        self.devices, self._starts_bytes = devices, starts_bytes
        self._workers: Workers | None = None

    def sample(
        self,
        denoiser: Denoiser,
        solver: Solver,
        noise: NoiseSchedule,
        shape_chw: tuple[int, int, int],
        image_indices: range,
        seed: int,
        start: Start | None = None,
    ) -> Iterator[Samples]:
        """What `sample` returns, a micro-batch at a time. Raises what that and `Workers.receive` do."""
        wanted = micro_batches(image_indices, self.micro_batch_images)
        how = (denoiser, solver, noise, shape_chw, seed, self.micro_batch_images, self.precision)
        if self.devices > 1 and len(wanted) > 1:
            yield from self._shared(how, wanted, start)
        else:
            for some in wanted:
                yield _drawn(how, some, self.device, start)

    def _shared(self, how: tuple[Any, ...], wanted: list[range], start: Start | None) -> Iterator[Samples]:
        of_rank: list[list[range]] = [[] for _ in range(self.devices)]
        for some in wanted:
            of_rank[some.start // self.micro_batch_images % self.devices].append(some)
        asked = packed((how, replace(start, states=SharedStarts(0)) if start else None))  # states here stay here
        workers, self._workers = self._workers or self._begin(), None
        for rank, ranges in enumerate(of_rank):
            if ranges:
                workers.send(rank, (asked, ranges))
        drawn: dict[range, Samples] = {}
        for some in wanted:
            while some not in drawn:
                received = workers.receive()
                assert received is not None
                which, samples = unpacked(received[1])
                drawn[which] = samples
            yield drawn.pop(some)
        self._workers = workers  # whoever does not come so far leaves them with images that nobody waits for

    def _begin(self) -> Workers:
        return Workers(self.devices, _serve, self.device, self._starts_bytes // self.devices)


def _drawn(how: tuple[Any, ...], some: range, device: torch.device | str, start: Start | None) -> Samples:
    denoiser, solver, noise, shape_chw, seed, size, precision = how
    return sample(denoiser, solver, noise, shape_chw, some, seed, size, device, start, precision)


def _serve(rank: int, said: "Connection[Any, Any]", device: str, starts_bytes: int) -> None:
    """Sample what is asked for, until nobody asks."""
    own_device = torch.device(device, rank) if device == "cuda" else torch.device(device)
    states = SharedStarts(starts_bytes)
    while True:
        try:
            asked, ranges = said.recv()
        except EOFError:
            return
        how, start = unpacked(asked, own_device)
        for some in ranges:
            samples = _drawn(how, some, own_device, replace(start, states=states) if start else None)
            said.send(packed((some, samples)))
