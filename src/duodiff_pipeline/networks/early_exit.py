"""AdaDiff as DuoDiff re-implemented it: on a frozen stack, an output head and an uncertainty probe before every block.

Source: AdaDiff (Tang et al., arXiv 2309.17074) as re-implemented for DuoDiff (arXiv 2410.09633): probe i and head i see
the input of block i, so exit depth i means that i blocks were executed; depth L is the network's own output.

Symbols: u_i uncertainty that probe i predicts, g_i noise that head i predicts, eps the true noise,
u_hat_i = mean over pixels of tanh|g_i - eps|, the uncertainty that g_i really has.
"""

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from .cost import count_macs
from .dit import DiTConfig, ReadsOutByCondition
from .probes import AttentionProbe, ProbeName, UncertaintyProbe, init_probes, make_probes, probe_macs
from .transformer import TransformerBackbone, TransformerConfig
from .uvit import ReadsOut, UViTConfig


class ExitHead(nn.Module):
    """Tokens (N, S, D) between two blocks to the noise (N, C, H, W) in the images x at timesteps (N,)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.add_output_layers()

    @abstractmethod
    def add_output_layers(self) -> None: ...

    @abstractmethod
    def read_out(self, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor: ...

    def forward(self, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        return self.read_out(tokens_nsd, x_nchw, timesteps)


class UViTHead(ReadsOut, ExitHead):
    """By output layers as those of a U-ViT."""

    config: UViTConfig


class DiTHead(ReadsOutByCondition, ExitHead):
    """By output layers as those of a DiT."""

    config: DiTConfig


def exit_head(config: TransformerConfig) -> ExitHead:
    return (DiTHead if isinstance(config, DiTConfig) else UViTHead)(config)


class EarlyExits(nn.Module):
    """The L heads and L probes that belong to one frozen network of L blocks; see `Exits`."""

    def __init__(self, config: TransformerConfig, probe: ProbeName = "linear") -> None:
        super().__init__()
        self.config = config
        self.heads = nn.ModuleList(exit_head(config) for _ in range(config.depth))
        self.probes = make_probes({"linear": UncertaintyProbe, "attention": AttentionProbe}[probe], config)

    def init_weights(self, network: TransformerBackbone, generator: torch.Generator) -> None:
        """Start every head as the network's own output layers, which it stands in for, and every probe near 1/2."""
        weights = network.state_dict()
        for head in self.heads:
            head.load_state_dict({name: weights[name] for name in head.state_dict()})
        init_probes(self.probes, generator)

    @property
    def depths(self) -> range:
        return range(self.config.depth)

    def network(self, backbone: TransformerBackbone) -> TransformerBackbone:
        return backbone

    def uncertainty(self, depth: int, tokens_nsd: Tensor) -> Tensor:
        return self.probes[depth](tokens_nsd)

    def read_out(self, depth: int, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        return self.heads[depth](tokens_nsd, x_nchw, timesteps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all heads and probes for one image, as in training."""
        return self.config.depth * (self.probe_macs + self._head_macs)

    @property
    def _head_macs(self) -> int:
        c = self.config
        tokens = torch.empty(1, c.extra_tokens + c.patches, c.width, device="meta")
        x = torch.empty(1, c.channels, c.image_size, c.image_size, device="meta")
        return count_macs(exit_head(replace(c, predicts="noise")), tokens, x, None)

    @property
    def probe_macs(self) -> int:
        return probe_macs(self.probes, self.config)

    def forward(self, tokens_before_blocks: list[Tensor], x_nchw: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The L block inputs (N, S, D) to predicted noise (L, N, C, H, W) and uncertainties (L, N)."""
        inputs = list(zip(self.heads, self.probes, tokens_before_blocks, strict=True))
        eps = torch.stack([head(tokens, x_nchw, timesteps) for head, _, tokens in inputs])
        return eps, torch.stack([probe(tokens) for _, probe, tokens in inputs])


def tokens_before_blocks(
    network: TransformerBackbone, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None
) -> list[Tensor]:
    """The input (N, S, D) of every block of a network, in order."""
    tokens, skips, inputs = network.embed(x_nchw, timesteps, labels), list[Tensor](), list[Tensor]()
    for i in range(network.depth - 1):
        inputs.append(tokens)
        tokens = network.run_block(i, tokens, skips)
    return [*inputs, tokens]


def early_exit_loss(eps_lnchw: Tensor, u_ln: Tensor, eps_nchw: Tensor, weight_n: Tensor) -> dict[str, Tensor]:
    """The loss of heads and probes, by part; the sum of the parts is what is minimised.

    eps_lnchw: (L, N, C, H, W) from the heads; u_ln: (L, N) from the probes; eps_nchw: (N, C, H, W) the true noise;
    weight_n: (N,) what the network's own loss is weighted by.

    probes: sum over layers of the batch mean of (u_i - u_hat_i)^2; heads: sum over layers of the batch mean of
    (1 - u_i) * weight * MSE_i (arXiv 2309.17074, L_u and L_UAL). As in the paper, and unlike the public code, both are
    batch means, targets and weights carry no gradient, and the weight is the predicted uncertainty.
    """
    error = eps_lnchw - eps_nchw
    u_hat_ln = error.detach().abs().tanh().mean(dim=(2, 3, 4))
    mse_ln = error.square().mean(dim=(2, 3, 4)) * weight_n
    return {
        "probes": (u_ln - u_hat_ln).square().mean(dim=1).sum(),
        "heads": ((1 - u_ln.detach()) * mse_ln).mean(dim=1).sum(),
    }
