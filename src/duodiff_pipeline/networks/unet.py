"""A U-Net with one encoder and a decoder a stage (Zhang et al., CVPR 2024, arXiv 2312.09181, section 4).

Its blocks are those of NCSN++ (Song et al., ICLR 2021, arXiv 2011.13456, appendix H), of diffusers: BigGAN residual
blocks that resample with a FIR filter, sums rescaled by sqrt(2), and the image itself taken in at every resolution. The
encoder, the bottleneck and the time embedding serve all stages; a decoder has a width of its own, and takes the skips
by concatenation. Decoders that differ in width alone, or are the only one, make the paper's baselines: an encoder for
each makes separate networks, and one decoder the unified network.

Shapes: N images, C channels; level l has the side image_size / 2^l and multipliers[l] times the width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.noise import NoiseSchedule
from ..errors import InputError
from .backbone import Backbone, Conditional, require_labels
from .cost import count_macs
from .fir import FirDown, FirDownConvolution, FirUp
from .preconditioning import Predicts, network_input, output_to_noise
from .uvit import timestep_embedding

MOST_GROUPS = 16
ROOT_2 = math.sqrt(2)


@dataclass(frozen=True)
class UNetConfig(Conditional):
    """Architecture of a U-Net.

    decoder_widths: one a stage, noise to data; multipliers: of the widths, one a level; blocks: residual ones a level
    of the encoder (a decoder has one more); attention_sides: of the levels with attention, pixels; shared_encoder: one
    for all decoders, or one for each; num_classes, predicts, noise, null_class: see `TransformerConfig`.

    Raises InputError where the image cannot be halved as often as levels ask for, for widths that are odd, and where
    there is a null class but no other.
    """

    image_size: int
    channels: int
    encoder_width: int
    decoder_widths: tuple[int, ...]
    multipliers: tuple[int, ...]
    blocks: int
    attention_sides: tuple[int, ...] = ()
    shared_encoder: bool = True
    num_classes: int = 0
    predicts: Predicts = "noise"
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    null_class: bool = False

    def __post_init__(self) -> None:
        for name in ("decoder_widths", "multipliers", "attention_sides"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        if self.image_size % 2 ** (len(self.multipliers) - 1):
            raise InputError(
                f"{len(self.multipliers)} levels halve the image {len(self.multipliers) - 1} times, "
                f"which its size {self.image_size} does not bear"
            )
        self.require_a_class()
        odd = [width for width in (self.encoder_width, *self.decoder_widths) if width % 4]
        if odd:
            raise InputError(f"width {odd[0]} is no multiple of 4, the least channels of a group that is normalised")

    @property
    def sides(self) -> tuple[int, ...]:
        """Of every level, pixels."""
        return tuple(self.image_size >> level for level in range(len(self.multipliers)))


def groups(channels: int) -> int:
    """Of a group norm: as the reference has it min(16, channels / 4), or the next fewer that divides the channels."""
    most = min(MOST_GROUPS, channels // 4)
    return next(count for count in range(most, 0, -1) if channels % count == 0)


def _residual(channels: int, out: int, time: int, up: bool = False, down: bool = False) -> nn.Module:
    """diffusers' residual block; one that resamples has a learnt shortcut, too."""
    from diffusers.models.resnet import ResnetBlock2D

    block = ResnetBlock2D(
        in_channels=channels,
        out_channels=out,
        temb_channels=time,
        groups=groups(channels),
        groups_out=groups(out),
        output_scale_factor=ROOT_2,
        up=up,
        down=down,
        use_in_shortcut=True if up or down else None,
    )
    if up:
        block.upsample = FirUp()
    if down:
        block.downsample = FirDown()
    return block


class _Attention(nn.Module):
    """diffusers' self-attention of one head over the pixels of (N, C, H, W), added to them."""

    def __init__(self, channels: int) -> None:
        from diffusers.models.attention_processor import Attention

        super().__init__()
        self.attention = Attention(
            query_dim=channels,
            heads=1,
            dim_head=channels,
            bias=True,
            norm_num_groups=groups(channels),
            eps=1e-6,
            residual_connection=True,
            rescale_output_factor=ROOT_2,
        )

    def forward(self, h_nchw: Tensor) -> Tensor:
        return self.attention(h_nchw)


class _Block(nn.Module):
    """A residual block, and attention where its level has any."""

    def __init__(self, channels: int, out: int, time: int, attends: bool) -> None:
        super().__init__()
        self.residual = _residual(channels, out, time)
        self.attention = _Attention(out) if attends else None

    def forward(self, h_nchw: Tensor, time_nd: Tensor) -> Tensor:
        h_nchw = self.residual(h_nchw, time_nd)
        return h_nchw if self.attention is None else self.attention(h_nchw)


class _Down(nn.Module):
    """Half the side, and the image, filtered and convolved to as many channels, added; both (N, C, H / 2, W / 2)."""

    def __init__(self, channels: int, image_channels: int, time: int) -> None:
        super().__init__()
        self.residual = _residual(channels, channels, time, down=True)
        self.image = FirDownConvolution(image_channels, channels)

    def forward(self, h_nchw: Tensor, image_nchw: Tensor, time_nd: Tensor) -> Tensor:
        return (self.residual(h_nchw, time_nd) + self.image(image_nchw)) / ROOT_2


class Encoder(nn.Module):
    """Time embedding, the way down and the bottleneck."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        c, time = config, 4 * config.encoder_width
        self.config = config
        self.time = nn.Sequential(nn.Linear(c.encoder_width, time), nn.SiLU(), nn.Linear(time, time))
        self.label_emb = nn.Embedding(c.num_classes, time) if c.num_classes else None
        self.first = nn.Conv2d(c.channels, c.encoder_width, 3, padding=1)
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        channels, image_channels, self.skip_channels = c.encoder_width, c.channels, [c.encoder_width]
        for level, (side, multiplier) in enumerate(zip(c.sides, c.multipliers, strict=True)):
            out = c.encoder_width * multiplier
            widths = [channels] + [out] * (c.blocks - 1)
            self.levels.append(nn.ModuleList(_Block(width, out, time, side in c.attention_sides) for width in widths))
            self.skip_channels += [out] * c.blocks
            channels = out
            if level < len(c.multipliers) - 1:
                self.downs.append(_Down(channels, image_channels, time))
                self.skip_channels.append(channels)
                image_channels = channels
        self.middle = nn.ModuleList([_Block(channels, channels, time, True), _Block(channels, channels, time, False)])
        self.out_channels = channels

    def forward(
        self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """The bottleneck (N, C', H', W'), the skips in the order they were made, and the embedded time (N, 4 D)."""
        require_labels(labels, self.config.num_classes)
        time = self.time(timestep_embedding(timesteps, self.config.encoder_width).to(x_nchw.dtype))
        if self.label_emb is not None:
            time = time + self.label_emb(labels)
        h, image = self.first(x_nchw), x_nchw
        skips = [h]
        for level, blocks in enumerate(self.levels):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                h = block(h, time)
                skips.append(h)
            if level < len(self.downs):
                h = image = self.downs[level](h, image, time)
                skips.append(h)
        for block in self.middle:
            h = block(h, time)
        return h, skips, time


class Decoder(nn.Module):
    """The way up, and out; width: that of the finest level."""

    def __init__(self, config: UNetConfig, width: int, bottleneck: int, skip_channels: Sequence[int]) -> None:
        super().__init__()
        self.width = width
        c, time, skips = config, 4 * config.encoder_width, list(skip_channels)
        self.levels, self.attentions, self.ups = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = bottleneck
        for level in reversed(range(len(c.multipliers))):
            blocks, out = nn.ModuleList(), width * c.multipliers[level]
            for _ in range(c.blocks + 1):
                blocks.append(_residual(channels + skips.pop(), out, time))
                channels = out
            self.levels.append(blocks)
            self.attentions.append(_Attention(out) if c.sides[level] in c.attention_sides else nn.Identity())
            if level:
                self.ups.append(_residual(out, out, time, up=True))
        self.norm = nn.GroupNorm(groups(channels), channels, eps=1e-6)
        self.last = nn.Conv2d(channels, c.channels, 3, padding=1)

    def forward(self, h_nchw: Tensor, skips: Sequence[Tensor], time_nd: Tensor) -> Tensor:
        left = list(skips)
        for level, blocks in enumerate(self.levels):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                h_nchw = block(torch.cat([h_nchw, left.pop()], dim=1), time_nd)
            h_nchw = self.attentions[level](h_nchw)
            if level < len(self.ups):
                h_nchw = self.ups[level](h_nchw, time_nd)
        return self.last(F.silu(self.norm(h_nchw)))


class StageUNet(Backbone):
    """One encoder read out by one decoder."""

    config: UNetConfig

    def __init__(self, config: UNetConfig, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.config, self.encoder, self.decoder = config, encoder, decoder

    def forward(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict the noise (N, C, H, W) in images that stand at timesteps (N,) of their own."""
        x_in, times = network_input(self.config, x_nchw, timesteps)
        output = self.decoder(*self.encoder(x_in, times, labels))
        return output_to_noise(self.config, output, x_nchw, timesteps)

    @property
    def depth(self) -> int:
        """Residual blocks executed, those that resample included."""
        levels = len(self.config.multipliers)
        return levels * (2 * self.config.blocks + 1) + 2 * (levels - 1) + 2

    @property
    def macs(self) -> int:
        return _macs(replace(self.config, decoder_widths=(self.decoder.width,)))


class UNet(nn.Module):
    """All encoders and decoders; what predicts are its parts, "0" to "K-1", the stages from noise to data."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        stages = len(config.decoder_widths)
        self.encoders = nn.ModuleList(Encoder(config) for _ in range(1 if config.shared_encoder else stages))
        self.decoders = nn.ModuleList(
            Decoder(config, width, self._encoder(0).out_channels, self._encoder(0).skip_channels)
            for width in config.decoder_widths
        )

    def _encoder(self, stage: int) -> Encoder:
        encoder = self.encoders[0 if self.config.shared_encoder else stage]
        assert isinstance(encoder, Encoder)
        return encoder

    @cached_property
    def stages(self) -> tuple[StageUNet, ...]:
        """One a stage, noise to data; they share this network's weights."""
        return tuple(StageUNet(self.config, self._encoder(j), d) for j, d in enumerate(self.decoders))  # type: ignore[arg-type]

    def part(self, name: str) -> StageUNet:
        """The stage of that number; raises InputError, listing those there are, for another name."""
        names = [str(stage) for stage in range(len(self.decoders))]
        if name not in names:
            raise InputError(f"there is no part {name!r}: this network has the parts {', '.join(names)}")
        return self.stages[int(name)]

    def init_weights(self, generator: torch.Generator) -> None:
        """Fill every parameter from `generator`, as NCSN++ does: Glorot's uniform, and what ends a sum with nothing."""
        ends = ("conv2.weight", "to_out.0.weight", "last.weight")
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.endswith(ends):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                nn.init.xavier_uniform_(parameter, generator=generator)


@cache  # networks are loaded again and again, and counting takes half a second
def _macs(c: UNetConfig) -> int:
    """Of the only stage."""
    with torch.device("meta"):
        (shapes_only,) = UNet(replace(c, predicts="noise")).stages  # the conversion costs no matrix product
        image, timestep = torch.empty(1, c.channels, c.image_size, c.image_size), torch.empty(1)
        label = torch.empty(1, dtype=torch.long) if c.num_classes else None
    return count_macs(shapes_only, image, timestep, label)
