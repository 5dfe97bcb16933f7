"""U-ViT (Bao et al., CVPR 2023, arXiv 2209.12152): a vision transformer with long skip connections.

Shapes: N images, C channels, H = W = image_size, p = patch, P = (H / p)^2 patches,
E extra tokens ([label,] time), S = E + P tokens, D = width, L = depth (blocks).

Parameter names and layouts are those of the official checkpoints, so that they load unchanged.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.denoiser import Prediction
from ..diffusion.noise import NoiseSchedule
from ..errors import InputError
from .cost import count_macs


@dataclass(frozen=True)
class UViTConfig:
    """Architecture of a U-ViT.

    depth counts all blocks and is odd (the official "depth 12" is 13 here: 6 in, 1 mid, 6 out).
    num_classes is the number of label embeddings, 0 for an unconditional network; with null_class, the last of them
    stands for no label. timestep_scale multiplies the timestep before it is embedded: 1 for networks trained here,
    0.001 for checkpoints trained on normalised time. predicts says what the last layer puts out, the noise or the clean
    image; `forward` returns the noise either way, by `noise`, the schedule that the network belongs to. mlp_ratio is
    the hidden width of an MLP over D; final_conv: whether a 3x3 convolution ends the network.

    Raises InputError where the patch does not divide the image, the heads do not divide the width,
    the depth is even, or there is a null class but no other.
    """

    image_size: int
    channels: int
    patch: int
    width: int
    depth: int
    heads: int
    num_classes: int = 0
    timestep_scale: float = 1.0
    predicts: Literal["noise", "image"] = "noise"
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    null_class: bool = False
    mlp_ratio: int = 4
    final_conv: bool = True

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise InputError(f"patch {self.patch} does not divide the image size {self.image_size}")
        if self.heads < 1 or self.width % self.heads:
            raise InputError(f"heads {self.heads} does not divide the width {self.width}")
        if self.depth % 2 == 0:
            raise InputError(f"depth {self.depth} is even: a U-ViT has as many out blocks as in blocks and one between")
        if self.null_class and self.num_classes < 2:
            raise InputError(f"{self.num_classes} label embeddings are too few for a null class beside another")

    @property
    def classes(self) -> int:
        """C: labels 0..C-1 are those of images; 0 for an unconditional network."""
        return self.num_classes - self.null_class

    @property
    def null_label(self) -> int | None:
        """The label that stands for none, which comes after those of images; None where nothing was trained for it."""
        return self.classes if self.null_class else None

    @property
    def extra_tokens(self) -> int:
        return 2 if self.num_classes else 1

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch) ** 2


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

    def forward(self, x_nsd: Tensor, skip_nsd: Tensor | None = None) -> Tensor:
        if self.skip_linear is not None and skip_nsd is not None:
            x_nsd = self.skip_linear(torch.cat([x_nsd, skip_nsd], dim=-1))
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


def output_to_noise(config: UViTConfig, output_nchw: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
    """What a last layer puts out to the noise in images x: eps = (x - sqrt(abar) x0) / sqrt(1 - abar)."""
    if config.predicts == "noise":
        return output_nchw
    abar = config.noise.abar_at(timesteps)[:, None, None, None]
    signal, noise = abar.sqrt().to(x_nchw), (1 - abar).sqrt().to(x_nchw)
    return (x_nchw - signal * output_nchw) / noise


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


class UViT(ReadsOut):
    """A noise-predicting U-ViT; keeps the `Denoiser` contract.

    Its parts (`embed`, `run_block`, `read_out`) are public so that early exits can stop between blocks.
    """

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

    @property
    def depth(self) -> int:
        return self.config.depth

    @property
    def classes(self) -> int:
        """C: it takes labels 0..C-1, or none where C is 0."""
        return self.config.classes

    @cached_property
    def blocks(self) -> list[Block]:
        return [*self.in_blocks, self.mid_block, *self.out_blocks]

    def embed(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W), timesteps (N,) and labels (N,) to tokens (N, S, D)."""
        if (labels is None) != (self.label_emb is None):
            raise InputError(
                f"this network has {self.config.num_classes} classes: labels are needed exactly where it has any"
            )
        time = timestep_embedding(timesteps * self.config.timestep_scale, self.config.width)
        tokens = [time.to(x_nchw.dtype)[:, None], self.patch_embed(x_nchw)]
        if self.label_emb is not None:
            tokens.insert(0, self.label_emb(labels)[:, None])
        return torch.cat(tokens, dim=1) + self.pos_embed

    def run_block(self, i: int, tokens_nsd: Tensor, skips: list[Tensor]) -> Tensor:
        """Run block i of 0..L-1; in blocks push their output on `skips`, out blocks pop it."""
        half = self.depth // 2
        if i <= half:
            tokens_nsd = self.blocks[i](tokens_nsd)
            if i < half:
                skips.append(tokens_nsd)
            return tokens_nsd
        return self.blocks[i](tokens_nsd, skips.pop())

    def forward(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict the noise (N, C, H, W) in images that stand at timesteps (N,) of their own."""
        tokens, skips = self.embed(x_nchw, timesteps, labels), list[Tensor]()
        for i in range(self.depth):
            tokens = self.run_block(i, tokens, skips)
        return self.read_out(tokens, x_nchw, timesteps)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one evaluation of one image."""
        c = self.config
        with torch.device("meta"):
            shapes_only = UViT(replace(c, predicts="noise"))  # the conversion costs no matrix product
            image, timestep = torch.empty(1, c.channels, c.image_size, c.image_size), torch.empty(1)
            label = torch.empty(1, dtype=torch.long) if c.num_classes else None
        return count_macs(shapes_only, image, timestep, label)

    @cached_property
    def macs_before_blocks(self) -> list[int]:
        """(L + 1,) multiply-accumulates of one image up to each block; the last entry is up to the output layers."""
        c = self.config
        with torch.device("meta"):
            image = torch.empty(1, c.channels, c.image_size, c.image_size)
            tokens = torch.empty(1, c.extra_tokens + c.patches, c.width)
        blocks = [count_macs(b, tokens, tokens) if b.skip_linear else count_macs(b, tokens) for b in self.blocks]
        return list(accumulate(blocks, initial=count_macs(self.patch_embed, image)))

    def predict(self, x: Tensor, timestep: float, labels: Tensor | None = None) -> Prediction:
        """See `Denoiser.predict`."""
        n = len(x)
        eps = self(x, torch.full((n,), timestep, device=x.device), labels)
        return Prediction(eps, torch.full((n,), self.depth), torch.full((n,), self.macs))
