"""Sampling by several processes, each with a device of its own."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from ..processes import Workers
from .denoiser import Denoiser
from .noise import NoiseSchedule
from .sampling import Samples, SamplingPrecision, sample
from .solvers import Solver
from .starts import SharedStarts, Start


class Shards:
    """`count` processes among which micro-batches go round: the b-th always to the same one.

    Images are those that `sample` makes in this process, bit for bit, for a micro-batch never knows of another. States
    that later runs start from stay with the process that made them, `starts_bytes` in all. The processes begin when
    they are first needed, and end with this object.
    """

    def __init__(self, count: int, device: str, starts_bytes: int) -> None:
        self.count = count
        self._device, self._starts_bytes = device, starts_bytes
        self._workers: Workers | None = None

    def sample(
        self,
        denoiser: Denoiser,
        solver: Solver,
        noise: NoiseSchedule,
        shape_chw: tuple[int, int, int],
        wanted: Sequence[range],
        seed: int,
        micro_batch_images: int,
        start: Start | None = None,
        precision: SamplingPrecision = "float32",
    ) -> Iterator[Samples]:
        """What `sample` returns for each range of images, in their order; none may reach into two micro-batches.

        Raises what `Workers.receive` does.
        """
        states = Start(SharedStarts(0), start.served_by, start.alike) if start else None  # those here stay here
        how = _packed((denoiser, solver, noise, shape_chw, seed, micro_batch_images, states, precision))
        of_rank: list[list[range]] = [[] for _ in range(self.count)]
        for some in wanted:
            of_rank[some.start // micro_batch_images % self.count].append(some)
        workers, self._workers = self._workers or self._begin(), None
        for rank, ranges in enumerate(of_rank):
            if ranges:
                workers.send(rank, (how, ranges))
        drawn: dict[range, Samples] = {}
        for some in wanted:
            while some not in drawn:
                received = workers.receive()
                assert received is not None
                which, images, trace = received[1]
                drawn[which] = Samples(torch.from_numpy(images), trace)
            yield drawn.pop(some)
        self._workers = workers  # whoever does not come so far leaves them with images that nobody waits for

    def _begin(self) -> Workers:
        return Workers(self.count, _draw, self._device, self._starts_bytes // self.count)


def _draw(rank: int, said: "Connection[Any, Any]", device: str, starts_bytes: int) -> None:
    """Sample what is asked for, until nobody asks."""
    own_device = torch.device(device, rank) if device == "cuda" else torch.device(device)
    states = SharedStarts(starts_bytes)
    while True:
        try:
            packed, ranges = said.recv()
        except EOFError:
            return
        denoiser, solver, noise, shape_chw, seed, size, start, precision = _unpacked(packed, own_device)
        start = replace(start, states=states) if start else None
        for some in ranges:
            samples = sample(denoiser, solver, noise, shape_chw, some, seed, size, own_device, start, precision)
            said.send((some, samples.images.numpy(), samples.trace))


def _packed(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _unpacked(content: bytes, device: torch.device) -> Any:
    """As it was packed in this run, its tensors on the device, in the types and memory formats that they had."""
    return torch.load(io.BytesIO(content), map_location=device, weights_only=False)
