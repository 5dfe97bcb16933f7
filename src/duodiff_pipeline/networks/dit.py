"""DiT (Peebles & Xie, ICCV 2023, arXiv 2212.09748): a plain stack of transformer blocks, steered by adaLN-zero.

Shapes: N images, C channels, H = W = image_size, p = patch, P = (H / p)^2 patches and as many tokens, D = width,
L = depth (blocks), S = 1 + P. c: (N, D), what is known of time and class; it goes along as the first of the S tokens,
which blocks pass on as it is.

Without long skips an exit depth is a prefix: d blocks run, and the shared final layer reads out. Attention and MLP are
those of the U-ViT here (no bias on q, k and v; exact GELU); positions are fixed sines and cosines.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..errors import InputError
from .backbone import require_labels
from .cost import count_macs
from .preconditioning import network_input, output_to_noise
from .transformer import TransformerBackbone, TransformerConfig, run_first
from .uvit import Attention, Mlp, PatchEmbed, timestep_embedding, unpatchify


@dataclass(frozen=True)
class DiTConfig(TransformerConfig):
    """Architecture of a DiT. Raises InputError where the width is odd, too: half of it tells the row of a patch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2:
            raise InputError(f"width {self.width} is odd: half of it tells the row of a patch, half the column")

    @property
    def extra_tokens(self) -> int:
        return 1

    @property
    def exit_depths(self) -> range:
        return range(1, self.depth + 1)


def modulate(x_nsd: Tensor, shift_nd: Tensor, scale_nd: Tensor) -> Tensor:
    return x_nsd * (1 + scale_nd[:, None]) + shift_nd[:, None]


class DiTBlock(nn.Module):
    """Transformer block whose shift, scale and gates come from c; gates of zero make it the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = Mlp(width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x_nsd: Tensor, c_nd: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(nn.functional.silu(c_nd)).chunk(6, dim=1)
        x_nsd = x_nsd + gate1[:, None] * self.attn(modulate(self.norm1(x_nsd), shift1, scale1))
        return x_nsd + gate2[:, None] * self.mlp(modulate(self.norm2(x_nsd), shift2, scale2))


class ReadsOutByCondition(nn.Module):
    """What ends in a norm that c modulates and a linear layer: a DiT, and a head in its midst."""

    config: DiTConfig
    norm: nn.LayerNorm
    modulation: nn.Linear
    final_linear: nn.Linear

    def add_output_layers(self) -> None:
        c = self.config
        self.norm = nn.LayerNorm(c.width, elementwise_affine=False)
        self.modulation = nn.Linear(c.width, 2 * c.width)
        self.final_linear = nn.Linear(c.width, c.patch**2 * c.channels)

    def read_out(self, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        """Tokens (N, S, D) to the noise (N, C, H, W) in the images x at timesteps (N,)."""
        c_nd, patches = tokens_nsd[:, 0], tokens_nsd[:, 1:]
        shift, scale = self.modulation(nn.functional.silu(c_nd)).chunk(2, dim=1)
        patches = self.final_linear(modulate(self.norm(patches), shift, scale))
        output = unpatchify(patches, self.config.patch, self.config.channels)
        return output_to_noise(self.config, output, x_nchw, timesteps)


class DiT(ReadsOutByCondition, TransformerBackbone):
    """A noise-predicting DiT."""

    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = c = config
        self.patch_embed = PatchEmbed(c.patch, c.channels, c.width)
        self.label_emb = nn.Embedding(c.num_classes, c.width) if c.num_classes else None
        self.time_mlp = nn.Sequential(nn.Linear(c.width, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.blocks = nn.ModuleList(DiTBlock(c.width, c.heads) for _ in range(c.depth))
        self.add_output_layers()
        self.register_buffer("positions", _positions(c), persistent=False)
        self.positions: Tensor

    def init_weights(self, generator: torch.Generator) -> None:
        """Modulations and the final layer at zero, so that every block begins as the identity; else normal(0.02)."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or "modulation" in name or "final" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    def embed(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        x_in, times = network_input(self.config, x_nchw, timesteps)
        c_nd = self._condition(times, labels).to(x_nchw.dtype)
        patches = self.patch_embed(x_in) + self.positions.to(x_nchw.dtype)
        return torch.cat([c_nd[:, None], patches], dim=1)

    def run_block(self, i: int, tokens_nsd: Tensor, skips: list[Tensor], running: int | None = None) -> Tensor:
        """As any stack; there are no long skips."""
        c_n1d, patches = tokens_nsd[:, :1], tokens_nsd[:, 1:]
        return torch.cat([c_n1d, run_first(self.blocks[i], patches, running, c_n1d[:, 0])], dim=1)

    @property
    def needed_depths(self) -> list[int]:
        return list(self.exit_depths)

    @cached_property
    def block_macs(self) -> int:
        c = self.config
        with torch.device("meta"):
            return count_macs(self.blocks[0], torch.empty(1, c.patches, c.width), torch.empty(1, c.width))

    @cached_property
    def macs_before_blocks(self) -> list[int]:
        c = self.config
        with torch.device("meta"):
            image, time = torch.empty(1, c.channels, c.image_size, c.image_size), torch.empty(1, c.width)
        embedding = count_macs(self.patch_embed, image) + count_macs(self.time_mlp, time)
        return [embedding + i * self.block_macs for i in range(self.depth + 1)]

    @property
    def embedding_parameters(self) -> list[nn.Parameter]:
        return list(self.time_mlp.parameters())

    def _condition(self, timesteps: Tensor, labels: Tensor | None) -> Tensor:
        require_labels(labels, self.config.num_classes)
        time = timestep_embedding(timesteps * self.config.timestep_scale, self.config.width)
        c_nd: Tensor = self.time_mlp(time.to(self.modulation.weight.dtype))
        return c_nd if self.label_emb is None else c_nd + self.label_emb(labels)


def _positions(config: DiTConfig) -> Tensor:
    """(1, P, D): the row of every patch, then its column, each as a sinusoidal embedding."""
    side = config.image_size // config.patch
    along = timestep_embedding(torch.arange(side), config.width // 2)
    return torch.cat([along.repeat_interleave(side, dim=0), along.repeat(side, 1)], dim=1)[None]
