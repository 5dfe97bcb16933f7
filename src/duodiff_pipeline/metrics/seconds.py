"""Seconds by the clock, and where they go."""

import re
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

# what multiply-accumulates count: matrix products, convolutions and attention products, by the names of their kernels
MATRIX_PRODUCT = re.compile(r"^aten::(.*mm|.*conv.*|.*scaled_dot_product.*|.*linear)$")


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


def share_outside_matrix_products(run: Callable[[], Tensor], rounds: int) -> float:
    """Of a run's seconds, the share (0..1) in which no matrix product, convolution or attention product is computed.

    Softmax within fused attention counts as inside. The products are timed by PyTorch's profiler, on the GPU where they
    run there, the whole run without it; median of the rounds each.
    """
    whole = median(time_in_turns({"run": run}, rounds)["run"])
    on_gpu = torch.cuda.is_available() and run().is_cuda
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    inside = []
    for _ in range(rounds):
        with profile(activities=activities) as profiled:
            run().cpu()
        products = [event for event in profiled.key_averages() if MATRIX_PRODUCT.match(event.key)]
        microseconds = sum(e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in products)
        inside.append(microseconds / 1e6)
    return max(0.0, 1 - median(inside) / whole)
