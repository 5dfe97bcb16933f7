"""The adaptive denoiser, AdaDiff's: every image leaves the network at a depth of its own, and the blocks are skipped.

Exit depth d means that d of L blocks were executed; their tokens are the output of block d and the input of block d+1.
"""

from typing import Protocol

import torch
from torch import Tensor

from ..diffusion.denoiser import Prediction
from .transformer import TransformerBackbone


class Exits(Protocol):
    """What the adaptive denoiser asks of early exits, which may stand before blocks or after them."""

    @property
    def depths(self) -> range:
        """Exit depths at which an image may leave, all below L."""
        ...

    @property
    def probe_macs(self) -> int:
        """Multiply-accumulates of one probe for one image."""
        ...

    def network(self, backbone: TransformerBackbone) -> TransformerBackbone:
        """Whose blocks run: the backbone that the exits were made for, or one of their own."""
        ...

    def uncertainty(self, depth: int, tokens_nsd: Tensor) -> Tensor:
        """(N,) in (0, 1), of what would be read out of tokens (N, S, D) at this depth."""
        ...

    def read_out(self, depth: int, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        """Tokens (N, S, D) at this depth to the noise (N, C, H, W) in the images x at timesteps (N,)."""
        ...


class AdaptiveDenoiser:
    """Every image leaves where its probe is sure enough; keeps the `Denoiser` contract.

    Exits really skip blocks: the batch shrinks as images leave it. A hit is an uncertainty <= threshold. Below the
    middle block, an image leaves at its hit number patience + 1; they need not follow one another. From there on it
    leaves at the next hit, and at depth L without one. DuoDiff's rule is patience 0, that of AdaDiff's code patience 1.
    macs_by_exit_depth: (L + 1,) int64, of one image, probes and heads included.
    """

    def __init__(self, backbone: TransformerBackbone, exits: Exits, threshold: float, patience: int = 0) -> None:
        self.network = exits.network(backbone)
        self.exits = exits
        self.threshold = threshold
        self.patience = patience
        self.macs_by_exit_depth = _macs_by_exit_depth(self.network, exits)

    @property
    def classes(self) -> int:
        return self.network.classes

    def predict(self, x: Tensor, timestep: float, labels: Tensor | None = None) -> Prediction:
        """See `Denoiser.predict`."""
        net, n = self.network, len(x)
        timesteps = torch.full((n,), timestep, device=x.device)
        here = torch.arange(n, device=x.device)  # the images that are still in the batch, in their order
        hits = torch.zeros_like(here)
        tokens, skips = net.embed(x, timesteps, labels), _LongSkips(here)
        left: list[tuple[int, Tensor, Tensor]] = []  # depth, which images, their noise
        for depth in range(net.depth):
            if depth in self.exits.depths:
                hit = self.exits.uncertainty(depth, tokens) <= self.threshold
                leaves = hit & (hits >= self.patience) if depth <= net.depth // 2 else hit
                hits = hits + hit
                leaving = int(leaves.sum())  # the only wait for the device
                if leaving == len(here):
                    left.append((depth, here, self._read_out(depth, tokens, x, timesteps, here)))
                    here = here[:0]
                    break
                if leaving:
                    order = leaves.sort(stable=True).indices  # who stays, then who leaves
                    stay, go = order[:-leaving], order[-leaving:]
                    gone, out = here[go], tokens.index_select(0, go)
                    left.append((depth, gone, self._read_out(depth, out, x, timesteps, gone)))
                    here, hits, tokens = here[stay], hits[stay], tokens.index_select(0, stay)
                    skips.here = here
            tokens = net.run_block(depth, tokens, skips)
        if len(here):
            left.append((net.depth, here, self._read_out(net.depth, tokens, x, timesteps, here)))
        return self._put_together(left, x)

    def _read_out(self, depth: int, tokens_nsd: Tensor, x: Tensor, timesteps: Tensor, images: Tensor) -> Tensor:
        if len(images) < len(x):
            x, timesteps = x[images], timesteps[images]
        if depth == self.network.depth:
            return self.network.read_out(tokens_nsd, x, timesteps)
        return self.exits.read_out(depth, tokens_nsd, x, timesteps)

    def _put_together(self, left: list[tuple[int, Tensor, Tensor]], x: Tensor) -> Prediction:
        eps = torch.empty_like(x)
        exit_depth = torch.empty(len(x), dtype=torch.int64, device=x.device)
        for depth, images, own_eps in left:
            eps[images] = own_eps
            exit_depth[images] = depth
        exit_depth = exit_depth.cpu()
        return Prediction(eps, exit_depth, self.macs_by_exit_depth[exit_depth])


class _LongSkips(list[Tensor]):
    """A network's long skips while its batch shrinks: each is cut to the images still here once, when it is popped."""

    def __init__(self, here: Tensor) -> None:
        super().__init__()
        self.here = here
        self._images: list[Tensor] = []  # whose tokens each skip holds

    def append(self, skip_nsd: Tensor) -> None:
        super().append(skip_nsd)
        self._images.append(self.here)

    def pop(self, *_: object) -> Tensor:
        skip, images = super().pop(), self._images.pop()
        if len(images) == len(self.here):
            return skip
        return skip.index_select(0, torch.searchsorted(images, self.here))


def _macs_by_exit_depth(network: TransformerBackbone, exits: Exits) -> Tensor:
    """(L + 1,) int64: multiply-accumulates of one image that exits at each depth; all heads are shaped alike."""
    before = torch.tensor(network.macs_before_blocks)
    probed = torch.tensor([depth in exits.depths for depth in range(network.depth + 1)]).cumsum(0)
    return before + probed * exits.probe_macs + (network.macs - before[-1])
