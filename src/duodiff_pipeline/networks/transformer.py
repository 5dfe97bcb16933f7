"""What transformers have in common: stacks of L equal blocks of which an image may use fewer, the exit depth.

Source: ASE (Moon et al., ICML 2024, arXiv 2408.05927): the exit depth is given beforehand, no probe is asked, and one
set of output layers reads out after any depth. What stays of a block that is dropped (the merge of a long skip) runs.

Shapes: N images, C channels, H = W = image_size, S tokens, D width, L depth.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor, nn

from ..diffusion.noise import NoiseSchedule
from ..errors import InputError
from .backbone import Backbone, Conditional
from .cost import count_macs
from .preconditioning import Predicts


@dataclass(frozen=True)
class TransformerConfig(Conditional):
    """Architecture of a backbone.

    depth counts all blocks; num_classes and null_class: see `Conditional`. timestep_scale multiplies the timestep
    before it is embedded: 1 for networks trained here, 0.001 for checkpoints trained on normalised time. predicts says
    what the last layer puts out: the noise, the clean image, or what EDM's preconditioning makes of the two (see
    `preconditioning`); `forward` returns the noise in any case, by `noise`, the schedule that the network belongs to.

    Raises InputError where the patch does not divide the image, the heads do not divide the width, or there is a null
    class but no other.
    """

    image_size: int
    channels: int
    patch: int
    width: int
    depth: int
    heads: int
    num_classes: int = 0
    timestep_scale: float = 1.0
    predicts: Predicts = "noise"
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    null_class: bool = False

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise InputError(f"patch {self.patch} does not divide the image size {self.image_size}")
        if self.heads < 1 or self.width % self.heads:
            raise InputError(f"heads {self.heads} does not divide the width {self.width}")
        self.require_a_class()

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch) ** 2

    @property
    @abstractmethod
    def extra_tokens(self) -> int:
        """How many tokens stand before those of the patches."""

    @property
    @abstractmethod
    def exit_depths(self) -> range:
        """Numbers of blocks that may run; the last is L."""


class TransformerBackbone(Backbone):
    """A noise-predicting stack of L blocks; keeps the `Denoiser` contract. Its parts are its exit depths: "5".

    What it is made of (`embed`, `run_block`, `read_out`) is public so that early exits can stop between blocks.
    """

    config: TransformerConfig

    @abstractmethod
    def init_weights(self, generator: torch.Generator) -> None:
        """Fill every parameter from `generator`."""

    @abstractmethod
    def embed(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W), timesteps (N,) and labels (N,) to tokens (N, S, D)."""

    @abstractmethod
    def run_block(self, i: int, tokens_nsd: Tensor, skips: list[Tensor], running: int | None = None) -> Tensor:
        """Run block i of 0..L-1. skips: what long skips hold so far; running: how many of the images, the first ones,
        run it, all of them where it is None.
        """

    @abstractmethod
    def read_out(self, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        """Tokens (N, S, D) to the noise (N, C, H, W) in the images x at timesteps (N,)."""

    def forward(
        self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None, running: Sequence[int] | None = None
    ) -> Tensor:
        """Predict the noise (N, C, H, W) in images that stand at timesteps (N,) of their own.

        running: (L,) how many of the images, the first ones, run each block; all of them where it is not given.
        """
        tokens, skips = self.embed(x_nchw, timesteps, labels), list[Tensor]()
        for i in range(self.depth):
            tokens = self.run_block(i, tokens, skips, None if running is None else running[i])
        return self.read_out(tokens, x_nchw, timesteps)

    @property
    @abstractmethod
    def needed_depths(self) -> list[int]:
        """(L,) the least exit depth at which each block runs."""

    @property
    @abstractmethod
    def block_macs(self) -> int:
        """Multiply-accumulates that one image saves for each block that is dropped."""

    @property
    @abstractmethod
    def macs_before_blocks(self) -> list[int]:
        """(L + 1,) multiply-accumulates of one image up to each block; the last entry is up to the output layers."""

    @property
    @abstractmethod
    def embedding_parameters(self) -> list[nn.Parameter]:
        """Of time and position, which stay as they are when the network is fine-tuned."""

    @property
    def depth(self) -> int:
        return self.config.depth

    @property
    def exit_depths(self) -> range:
        return self.config.exit_depths

    def part(self, name: str) -> "Truncated":
        """The network of which only so many blocks run; raises InputError, listing the exit depths, for another."""
        if name not in map(str, self.exit_depths):
            shown = ", ".join(map(str, self.exit_depths))
            raise InputError(f"there is no part {name!r} of a network of {self.depth} blocks; there are {shown}")
        return Truncated(self, int(name))

    def forward_to(self, x_nchw: Tensor, timesteps: Tensor, depths: Tensor, labels: Tensor | None = None) -> Tensor:
        """As `forward`, where every image runs as many blocks as `depths` says, (N,) on the CPU, and no others.

        The images are sorted by depth, so that those which leave are cut off the batch; the order that comes back is
        the order given.
        """
        order = depths.argsort(descending=True, stable=True)
        running = [int((depths >= needed).sum()) for needed in self.needed_depths]
        labels = None if labels is None else labels[order]
        return self(x_nchw[order], timesteps[order], labels, running)[order.argsort()]

    @property
    def macs(self) -> int:
        return self._count_macs(self.config)

    @classmethod
    @cache  # networks are loaded again and again, and counting takes a tenth of a second
    def _count_macs(cls, c: TransformerConfig) -> int:
        with torch.device("meta"):
            shapes_only = cls(replace(c, predicts="noise"))  # the conversion costs no matrix product
            image, timestep = torch.empty(1, c.channels, c.image_size, c.image_size), torch.empty(1)
            label = torch.empty(1, dtype=torch.long) if c.num_classes else None
        return count_macs(shapes_only, image, timestep, label)

    def macs_at(self, depth: int) -> int:
        """Multiply-accumulates of one evaluation of one image at an exit depth."""
        return self.macs - (self.depth - depth) * self.block_macs


class Truncated(Backbone):
    """A network of which `exit_depth` blocks run, the others dropped."""

    def __init__(self, network: TransformerBackbone, exit_depth: int) -> None:
        super().__init__()
        self.config = network.config
        self.network = network
        self.exit_depth = exit_depth

    @property
    def depth(self) -> int:
        return self.exit_depth

    @property
    def macs(self) -> int:
        return self.network.macs_at(self.exit_depth)

    def forward(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict the noise (N, C, H, W) in images that stand at timesteps (N,) of their own."""
        running = [len(x_nchw) if needed <= self.exit_depth else 0 for needed in self.network.needed_depths]
        eps: Tensor = self.network(x_nchw, timesteps, labels, running)
        return eps


def run_first(block: Callable[..., Tensor], tokens_nsd: Tensor, running: int | None, *more: Tensor) -> Tensor:
    """`block` on the first `running` of the images' tokens, all where None; the others stay as they are.

    more: what else the block takes, (N, ...).
    """
    if running is None or running == len(tokens_nsd):
        return block(tokens_nsd, *more)
    if running == 0:
        return tokens_nsd
    first: Iterable[Tensor] = (each[:running] for each in (tokens_nsd, *more))
    return torch.cat([block(*first), tokens_nsd[running:]])
