"""U-ViT (Bao et al., CVPR 2023, arXiv 2209.12152): a vision transformer with long skip connections.

Shapes: N images, C channels, H = W = image_size, p = patch, P = (H / p)^2 patches,
E extra tokens ([label,] time), S = E + P tokens, D = width, L = depth (blocks).

Parameter names and layouts are those of the official checkpoints, so that they load unchanged.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .backbone import require_labels
from .cost import count_macs
from .preconditioning import network_input, output_to_noise
from .transformer import TransformerBackbone, TransformerConfig, run_first

DropOrder = Literal["outer", "inner"]


@dataclass(frozen=True)
class UViTConfig(TransformerConfig):
    """Architecture of a U-ViT; its depth is odd (the official "depth 12" is 13 here: 6 in, 1 mid, 6 out).

    dropped_first: which out blocks go first where an exit depth drops some, those near the output or those near the
    middle; in blocks and the middle one always run, for without them the long skips carry nothing (ASE, figure 8).
    mlp_ratio is the hidden width of an MLP over D; final_conv: whether a 3x3 convolution ends the network.

    Raises InputError where the depth is even, too.
    """

    dropped_first: DropOrder = "outer"
    mlp_ratio: int = 4
    final_conv: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth % 2 == 0:
            raise InputError(f"depth {self.depth} is even: a U-ViT has as many out blocks as in blocks and one between")

    @property
    def extra_tokens(self) -> int:
        return 2 if self.num_classes else 1

    @property
    def exit_depths(self) -> range:
        return range(self.depth // 2 + 1, self.depth + 1)


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of timesteps (N,) to (N, width): cosines first, then sines."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=timesteps.device) / half)
    angles = timesteps[:, None].float() * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))


class Attention(nn.Module):
    """Multi-head self-attention over (N, S, D) with one fused, bias-free projection laid out (q|k|v, head, D/head)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x_nsd: Tensor) -> Tensor:
        n, s, d = x_nsd.shape
        q, k, v = self.qkv(x_nsd).view(n, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(n, s, d))


class Mlp(nn.Module):
    """Linear(D, R D), GELU, Linear(R D, D) with R = ratio."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x_nsd: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_nsd)))


class Block(nn.Module):
    """Pre-norm transformer block; an out block first merges a long skip into the stream."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4, merges_skip: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_ratio)
        self.skip_linear = nn.Linear(2 * width, width) if merges_skip else None

    def forward(self, x_nsd: Tensor, skip_nsd: Tensor | None = None, running: int | None = None) -> Tensor:
        """running: how many of the images, the first ones, do more than merge; all of them where it is None."""
        if self.skip_linear is not None and skip_nsd is not None:
            x_nsd = self.skip_linear(torch.cat([x_nsd, skip_nsd], dim=-1))
        return run_first(self._attend_and_map, x_nsd, running)

    def _attend_and_map(self, x_nsd: Tensor) -> Tensor:
        x_nsd = x_nsd + self.attn(self.norm1(x_nsd))
        return x_nsd + self.mlp(self.norm2(x_nsd))


class PatchEmbed(nn.Module):
    """Patches of (N, C, H, W) to tokens (N, P, D), row by row."""

    def __init__(self, patch: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x_nchw: Tensor) -> Tensor:
        return self.proj(x_nchw).flatten(2).transpose(1, 2)


def unpatchify(tokens_npk: Tensor, patch: int, channels: int) -> Tensor:
    """Tokens (N, P, p*p*C), laid out (p, p, C) inside a token, to (N, C, H, W)."""
    n, p, _ = tokens_npk.shape
    side = math.isqrt(p)
    grid = tokens_npk.view(n, side, side, patch, patch, channels)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(n, channels, side * patch, side * patch)


class ReadsOut(nn.Module):
    """What ends in a norm, a linear layer and a convolution: a U-ViT, and a head in its midst."""

    config: UViTConfig
    norm: nn.LayerNorm
    decoder_pred: nn.Linear
    final_layer: nn.Module

    def add_output_layers(self) -> None:
        c = self.config
        self.norm = nn.LayerNorm(c.width)
        self.decoder_pred = nn.Linear(c.width, c.patch**2 * c.channels)
        self.final_layer = nn.Conv2d(c.channels, c.channels, 3, padding=1) if c.final_conv else nn.Identity()

    def read_out(self, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        """Tokens (N, S, D) to the noise (N, C, H, W) in the images x at timesteps (N,)."""
        patches = self.decoder_pred(self.norm(tokens_nsd))[:, self.config.extra_tokens :]
        output = self.final_layer(unpatchify(patches, self.config.patch, self.config.channels))
        return output_to_noise(self.config, output, x_nchw, timesteps)


class UViT(ReadsOut, TransformerBackbone):
    """A noise-predicting U-ViT."""

    config: UViTConfig

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config = config
        c, half = config, config.depth // 2
        self.patch_embed = PatchEmbed(c.patch, c.channels, c.width)
        self.label_emb = nn.Embedding(c.num_classes, c.width) if c.num_classes else None
        self.pos_embed = nn.Parameter(torch.zeros(1, c.extra_tokens + c.patches, c.width))
        size = (c.width, c.heads, c.mlp_ratio)
        self.in_blocks = nn.ModuleList(Block(*size) for _ in range(half))
        self.mid_block = Block(*size)
        self.out_blocks = nn.ModuleList(Block(*size, merges_skip=True) for _ in range(half))
        self.add_output_layers()

    def init_weights(self, generator: torch.Generator) -> None:
        """Fill every parameter from `generator`: normal(0.02) matrices, PyTorch's bounds for convolutions."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            elif parameter.dim() == 4:
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    @cached_property
    def blocks(self) -> list[Block]:
        return [*self.in_blocks, self.mid_block, *self.out_blocks]

    def embed(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        require_labels(labels, self.config.num_classes)
        x_in, times = network_input(self.config, x_nchw, timesteps)
        time = timestep_embedding(times * self.config.timestep_scale, self.config.width)
        tokens = [time.to(x_nchw.dtype)[:, None], self.patch_embed(x_in)]
        if self.label_emb is not None:
            tokens.insert(0, self.label_emb(labels)[:, None])
        return torch.cat(tokens, dim=1) + self.pos_embed

    def run_block(self, i: int, tokens_nsd: Tensor, skips: list[Tensor], running: int | None = None) -> Tensor:
        """As any stack; in blocks push their output on `skips`, out blocks pop it."""
        half = self.depth // 2
        if i <= half:
            tokens_nsd = self.blocks[i](tokens_nsd, None, running)
            if i < half:
                skips.append(tokens_nsd)
            return tokens_nsd
        return self.blocks[i](tokens_nsd, skips.pop(), running)

    @property
    def needed_depths(self) -> list[int]:
        always, *out = self.exit_depths
        return [always] * always + (out if self.config.dropped_first == "outer" else out[::-1])

    @cached_property
    def block_macs(self) -> int:
        c = self.config
        return count_macs(self.mid_block, torch.empty(1, c.extra_tokens + c.patches, c.width, device="meta"))

    @property
    def embedding_parameters(self) -> list[nn.Parameter]:
        return [self.pos_embed]  # the embedding of time itself has none

    @cached_property
    def macs_before_blocks(self) -> list[int]:
        c = self.config
        with torch.device("meta"):
            image = torch.empty(1, c.channels, c.image_size, c.image_size)
            tokens = torch.empty(1, c.extra_tokens + c.patches, c.width)
        blocks = [count_macs(b, tokens, tokens) if b.skip_linear else count_macs(b, tokens) for b in self.blocks]
        return list(accumulate(blocks, initial=count_macs(self.patch_embed, image)))
