"""Training in several processes: each computes the gradients of its share of every batch, and all take the mean.

The processes run the training function alone, never the command (Lightning's own launchers would run that again in
each). Gradients are averaged here and not by DistributedDataParallel, so that a weight that no process used has no
gradient rather than one of 0, that a loss may depend on means over the whole batch, and that accumulating gradients
needs nothing more.
"""

from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from ..processes import Workers, packed, unpacked

HOST = "127.0.0.1"


class Observer(Protocol):
    """Who watches a training."""

    def log_metrics(self, values: dict[str, float], step: int) -> None: ...

    def log_images(self, name: str, images_u8: Tensor, step: int) -> None: ...


def run_ranks(
    count: int,
    on_gpus: bool,
    function: Callable[..., Any],
    own: tuple[Any, ...],
    shared: tuple[Any, ...],
    observer: Observer,
) -> None:
    """Run function(*own, *shared, observer=…) in `count` processes that form one process group, until all have ended.

    own: of which every process has a copy to change; shared: whose tensors lie in memory once, for all of them.
    What the first one observes is told to `observer`, and what the others do to nobody. Raises what `Workers` do.
    """
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    group = (count, store.port, "nccl" if on_gpus else "gloo")
    with Workers(count, _rank, *group, function, packed(own), shared) as workers:
        while (told := workers.receive()) is not None:
            what, *arguments = unpacked(told[1])
            getattr(observer, what)(*arguments)


def _rank(
    rank: int,
    said: "Connection[Any, Any]",
    count: int,
    port: int,
    backend: str,
    function: Callable[..., Any],
    own: bytes,
    shared: tuple[Any, ...],
) -> None:
    if backend == "nccl":
        torch.cuda.set_device(rank)
    store = TCPStore(HOST, port, is_master=False)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    function(*unpacked(own), *shared, observer=_Telling(said) if rank == 0 else None)
    dist.destroy_process_group()


class _Telling:
    """Tells the observer, which is in another process."""

    def __init__(self, said: "Connection[Any, Any]") -> None:
        self._said = said

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self._said.send(packed(("log_metrics", values, step)))

    def log_images(self, name: str, images_u8: Tensor, step: int) -> None:
        self._said.send(packed(("log_images", name, images_u8, step)))


def rank_of_world() -> tuple[int, int]:
    """Which of how many processes this is: 0 of 1 where there is no process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def mean_over_ranks(values: Tensor) -> Tensor:
    """Of a tensor that every process has, elementwise."""
    _, count = rank_of_world()
    if count > 1:
        dist.all_reduce(values := values.clone())
        values /= count
    return values


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Make every gradient the mean over the processes; what has one in none of them keeps none."""
    if rank_of_world()[1] == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
    used = used.to(trained[0].device)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    own = [parameter for parameter, anywhere in zip(trained, used.tolist(), strict=True) if anywhere]
    for parameter in own:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in own if parameter.grad is not None]
    if not gradients:
        return
    means = mean_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, torch.split(means, [each.numel() for each in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
