"""Early exits on a frozen U-ViT: an output head and an uncertainty probe before every block.

Source: AdaDiff (Tang et al., arXiv 2309.17074) as re-implemented for DuoDiff (arXiv 2410.09633): probe i and head i see
the input of block i, so exit depth i means that i blocks were executed; depth L is the network's own output.

Symbols: u_i uncertainty that probe i predicts, g_i noise that head i predicts, eps the true noise,
u_hat_i = mean over pixels of tanh|g_i - eps|, the uncertainty that g_i really has.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Prediction
from .cost import count_macs
from .uvit import ReadsOut, UViT, UViTConfig


class ExitHead(ReadsOut):
    """Tokens (N, S, D) between two blocks to the noise (N, C, H, W) in the images x at timesteps (N,)."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        c = self.config = config
        self.norm = nn.LayerNorm(c.width)
        self.decoder_pred = nn.Linear(c.width, c.patch**2 * c.channels)
        self.final_layer = nn.Conv2d(c.channels, c.channels, 3, padding=1)

    def forward(self, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        return self.read_out(tokens_nsd, x_nchw, timesteps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        c = self.config
        tokens = torch.empty(1, c.extra_tokens + c.patches, c.width, device="meta")
        return count_macs(ExitHead(replace(c, predicts="noise")), tokens, None, None)


class UncertaintyProbe(nn.Module):
    """Tokens (N, S, D) to an uncertainty (N,) in (0, 1): a sigmoid on every token, then their mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, tokens_nsd: Tensor) -> Tensor:
        return self.linear(tokens_nsd).sigmoid().mean(dim=(1, 2))


class EarlyExits(nn.Module):
    """The L heads and L probes that belong to one frozen network of L blocks."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config = config
        self.heads = nn.ModuleList(ExitHead(config) for _ in range(config.depth))
        self.probes = nn.ModuleList(UncertaintyProbe(config.width) for _ in range(config.depth))

    def init_weights(self, network: UViT, generator: torch.Generator) -> None:
        """Start every head as the network's own output layers, which it stands in for, and every probe near 1/2."""
        output = {
            name: tensor
            for name, tensor in network.state_dict().items()
            if name.split(".")[0] in ("norm", "decoder_pred", "final_layer")
        }
        for head in self.heads:
            head.load_state_dict(output)
        for name, parameter in self.probes.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all heads and probes for one image, as in training."""
        return sum(self.probe_macs) + sum(self.head_macs)

    @property
    def head_macs(self) -> list[int]:
        return [head.macs for head in self.heads]  # type: ignore[misc]

    @property
    def probe_macs(self) -> list[int]:
        tokens = torch.empty(1, self.config.extra_tokens + self.config.patches, self.config.width, device="meta")
        return [count_macs(probe, tokens) for probe in self.probes]

    def forward(self, tokens_before_blocks: list[Tensor], x_nchw: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The L block inputs (N, S, D) to predicted noise (L, N, C, H, W) and uncertainties (L, N)."""
        inputs = list(zip(self.heads, self.probes, tokens_before_blocks, strict=True))
        eps = torch.stack([head(tokens, x_nchw, timesteps) for head, _, tokens in inputs])
        return eps, torch.stack([probe(tokens) for _, probe, tokens in inputs])


def tokens_before_blocks(
    network: UViT, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None
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


def _macs_by_exit_depth(network: UViT, exits: EarlyExits) -> Tensor:
    """(L + 1,) int64: multiply-accumulates of one image that exits at each depth, probes and heads included."""
    before = torch.tensor(network.macs_before_blocks)
    probed = torch.tensor(exits.probe_macs).cumsum(0)
    own_head = network.macs - int(before[-1])
    return before + torch.cat([probed, probed[-1:]]) + torch.tensor([*exits.head_macs, own_head])


class AdaptiveDenoiser:
    """AdaDiff: every image leaves at the first block whose probe is sure enough; keeps the `Denoiser` contract.

    Exits really skip blocks: the batch shrinks as images leave it. An image exits before block i at the first i with
    u_i <= threshold, and at depth L otherwise. macs_by_exit_depth: (L + 1,) int64, of one image.
    """

    def __init__(self, network: UViT, exits: EarlyExits, threshold: float) -> None:
        self.network = network
        self.exits = exits
        self.threshold = threshold
        self.macs_by_exit_depth = _macs_by_exit_depth(network, exits)

    def predict(self, x: Tensor, timestep: float, labels: Tensor | None = None) -> Prediction:
        """See `Denoiser.predict`."""
        net, n = self.network, len(x)
        eps = torch.empty_like(x)
        exit_depth = torch.full((n,), net.depth)
        here = torch.arange(n, device=x.device)  # which images are still in the batch
        timesteps = torch.full((n,), timestep, device=x.device)
        tokens, skips = net.embed(x, timesteps, labels), list[Tensor]()
        for i, (probe, head) in enumerate(zip(self.exits.probes, self.exits.heads, strict=True)):
            leaves = probe(tokens) <= self.threshold
            if leaves.any():
                eps[here[leaves]] = head(tokens[leaves], x[here[leaves]], timesteps[here[leaves]])
                exit_depth[here[leaves].cpu()] = i
                here, tokens, skips = here[~leaves], tokens[~leaves], [skip[~leaves] for skip in skips]
                if not len(here):
                    break
            tokens = net.run_block(i, tokens, skips)
        if len(here):
            eps[here] = net.read_out(tokens, x[here], timesteps[here])
        return Prediction(eps, exit_depth, self.macs_by_exit_depth[exit_depth])
