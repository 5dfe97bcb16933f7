"""Probes: what a stream of tokens between two blocks says about the prediction that could be read out of it there.

Shapes: N images, S tokens, of which E extra ones (of label and time) come first, D width, C, H, W of an image.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from .cost import count_macs
from .transformer import TransformerConfig
from .uvit import unpatchify

ProbeName = Literal["linear", "attention"]


class UncertaintyProbe(nn.Module):
    """Tokens (N, S, D) to an uncertainty (N,) in (0, 1): a sigmoid on every token, then their mean.

    DuoDiff's `mlp_probe_per_layer`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.width, 1)

    def forward(self, tokens_nsd: Tensor) -> Tensor:
        return self.linear(tokens_nsd).sigmoid().mean(dim=(1, 2))


class ConfidenceMap(nn.Module):
    """Tokens (N, S, D) to a confidence (N, C, H, W) in (0, 1) for every pixel, from the token of its patch.

    AdaDiff's `LTE`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.width, config.patch**2 * config.channels)

    def forward(self, tokens_nsd: Tensor) -> Tensor:
        patches = self.linear(tokens_nsd)[:, self.config.extra_tokens :].sigmoid()
        return unpatchify(patches, self.config.patch, self.config.channels)


class AttentionProbe(nn.Module):
    """Tokens (N, S, D) to one number (N,) in (0, 1): a learned query attends to the patches, an MLP reads the mean.

    DuoDiff's `attention_probe`, mended: label and time tokens are both left out, and a sigmoid keeps the number within
    (0, 1). It has no matrices for keys and values: with a single query they only multiply into it and into the MLP, so
    the functions are the same, at 1/S of the cost.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.extra_tokens, self.scale = config.extra_tokens, config.width**-0.5
        self.query = nn.Linear(config.width, 1, bias=False)
        self.hidden = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, 1)

    def forward(self, tokens_nsd: Tensor) -> Tensor:
        patches = tokens_nsd[:, self.extra_tokens :]
        attention = (self.scale * self.query(patches)).softmax(dim=1)
        mean = (attention.transpose(1, 2) @ patches).squeeze(1)
        return self.output(nn.functional.silu(self.hidden(mean))).sigmoid().squeeze(1)


def make_probes(kind: Callable[[TransformerConfig], nn.Module], config: TransformerConfig) -> nn.ModuleList:
    """One probe a block."""
    return nn.ModuleList(kind(config) for _ in range(config.depth))


def init_probes(probes: nn.ModuleList, generator: torch.Generator) -> None:
    """Start every probe near 1/2, and attention evenly spread."""
    for name, parameter in probes.named_parameters():
        if name.endswith("bias") or "query" in name:
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=0.02, generator=generator)


def probe_macs(probes: Iterable[nn.Module], config: TransformerConfig) -> int:
    """Multiply-accumulates of one of the probes, which are all alike, for one image."""
    tokens = torch.empty(1, config.extra_tokens + config.patches, config.width, device="meta")
    return count_macs(next(iter(probes)), tokens)
