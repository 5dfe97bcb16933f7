"""Seconds by the clock, and where they go."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def time_in_turns(runs: Mapping[str, Callable[[], Tensor]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run in every round, after one round to warm up that is not counted.

    The runs take turns, so that a machine that slows down slows all of them. A run ends when the tensor it returns is
    on the CPU, that is, when the device has done all of it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run().cpu()
            seconds[name].append(time.perf_counter() - started)
    return {name: own[1:] for name, own in seconds.items()}


@dataclass(frozen=True)
class Profile:
    """Of a run: its seconds, and those of them in what multiply-accumulates count: matrix products, convolutions and
    attention, whose softmax is fused into it.
    """

    seconds: float
    in_products: float

    @property
    def outside(self) -> float:
        """The share (0..1) of the seconds outside of the products."""
        return max(0.0, 1 - self.in_products / self.seconds)


def profile_in_turns(runs: Mapping[str, Callable[[], Tensor]], rounds: int) -> dict[str, Profile]:
    """The median profile of every run, after one round to warm up that is not counted.

    Products are timed one by one, right after the whole run, so that both meet the same machine; the runs take turns.
    """
    inside: dict[str, list[float]] = {name: [] for name in runs}

    def clocked(name: str) -> Tensor:
        with _ProductClock() as clock:
            made = runs[name]().cpu()
        inside[name].append(clock.seconds)
        return made

    in_turns: dict[str, Callable[[], Tensor]] = {}
    for name, run in runs.items():
        in_turns |= {name: run, f"products of {name}": partial(clocked, name)}
    with torch.no_grad():
        whole = time_in_turns(in_turns, rounds)
    return {name: Profile(median(whole[name]), median(inside[name][1:])) for name in runs}


class _ProductClock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Seconds of the operations whose multiply-accumulates PyTorch counts, and of the CPU's fused attention."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket not in flop_registry and "scaled_dot_product" not in func.name():
            return func(*args, **(kwargs or {}))
        on_gpu = args[0].is_cuda
        if on_gpu:
            torch.cuda.synchronize(args[0].device)
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        if on_gpu:
            torch.cuda.synchronize(args[0].device)
        self.seconds += time.perf_counter() - started
        return result
