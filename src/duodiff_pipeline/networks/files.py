"""Network files: weights in safetensors, with all that must be known to use them. Nothing is unpickled."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..diffusion.noise import NoiseSchedule
from ..errors import InputError
from ..files import content_sha256, load_tensors, save_tensors
from .backbone import part_of
from .dit import DiT, DiTConfig
from .early_exit import EarlyExits
from .probes import ProbeName
from .shared_exits import SharedExits
from .transformer import TransformerConfig
from .unet import UNet, UNetConfig
from .uvit import UViT, UViTConfig

StoredAs = Literal["float32", "float16"]
BackboneKind = Literal["uvit", "dit"]
ExitVariant = Literal["duodiff", "authors"]
BYTES_PER_PARAMETER = 4  # in memory, whatever they are stored as


def exit_kind(variant: ExitVariant, probe: ProbeName, backbone: str) -> str:
    """Of early exits, by the kind of the network that they were made for."""
    name = "early_exits" if variant == "duodiff" else "shared_exits"
    return name + ("_attention" if probe == "attention" else "") + ("_of_dit" if backbone == "dit" else "")


EXITS = list(product(get_args(ExitVariant), get_args(ProbeName), get_args(BackboneKind)))
KINDS: dict[str, Callable[[Any], nn.Module]] = {
    "uvit": UViT,
    "dit": DiT,
    "unet": UNet,
    **{
        exit_kind(variant, probe, backbone): partial(EarlyExits if variant == "duodiff" else SharedExits, probe=probe)
        for variant, probe, backbone in EXITS
    },
}
CONFIGS: dict[str, Callable[..., Any]] = {
    "dit": DiTConfig,
    "unet": UNetConfig,
    **{exit_kind(variant, probe, "dit"): DiTConfig for variant, probe, _ in EXITS},
}  # all others are made for a U-ViT


def _config(kind: str, architecture: dict[str, Any]) -> TransformerConfig | UNetConfig:
    return CONFIGS.get(kind, UViTConfig)(**{**architecture, "noise": NoiseSchedule(**architecture["noise"])})


@dataclass(frozen=True)
class NetworkHeader:
    """architecture: the constructor's arguments; timestep_range: [low, high) it was trained for; training: its
    parameters, seed and hardware, or of which foreign checkpoint it is; step: optimiser steps made; weights: which of
    raw and averaged ones; data_sha256: of the training pack, None where nobody knows; backbone_sha256: of the network
    that early exits were made for, or that this one was fine-tuned from; teacher_sha256: of the one whose predictions
    it learnt; step_macs: multiply-accumulates of a training step for one image, mean over the steps, None where that is
    three passes of the network alone; stored_as: precision of the weights in the file, which compute in float32 once
    loaded; exit_schedule: the one it was trained for, as `ExitSchedule.to_dict` has it; stage_edges: e_1 > e_2 > ...,
    where the network has a part for every stage, part j having been trained for e_j > n >= e_{j+1} of the range.
    """

    kind: str
    architecture: dict[str, Any]
    timestep_range: tuple[float, float]
    training: dict[str, Any]
    step: int
    weights: Literal["raw", "ema"]
    data_sha256: str | None
    backbone_sha256: str | None = None
    teacher_sha256: str | None = None
    step_macs: float | None = None
    stored_as: StoredAs = "float32"
    exit_schedule: dict[str, Any] | None = None
    stage_edges: tuple[float, ...] = ()

    def range_of(self, part: str | None) -> tuple[float, float]:
        """[low, high) that a part was trained for: of a network without stages, the range of the whole."""
        low, high = self.timestep_range
        if part is None or not self.stage_edges:
            return low, high
        bounds = (high, *self.stage_edges, low)
        return bounds[int(part) + 1], bounds[int(part)]

    def require_trained_for(self, name: str, timesteps: Sequence[float]) -> None:
        """Raises InputError where a schedule would use the network, or the part named, where it was not trained."""
        low, high = self.range_of(part_of(name))
        foreign = [n for n in timesteps if not low <= n < high]
        if foreign:
            raise InputError(
                f"{name} was trained for timesteps [{low:g}, {high:g}), but the schedule uses it at {foreign[-1]:g}"
            )


@dataclass(frozen=True)
class StoredNetwork:
    """A network in evaluation mode and its header."""

    module: nn.Module
    header: NetworkHeader

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)

    @cached_property
    def sha256(self) -> str:
        """Of all that predictions depend on and where they may be asked for."""
        header = {"architecture": self.header.architecture, "timestep_range": self.header.timestep_range}
        stages = {"stage_edges": self.header.stage_edges} if self.header.stage_edges else {}
        return content_sha256({**header, **stages}, self.module.state_dict())

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())

    def save(self, path: Path) -> None:
        """Write the network; raises InputError where a weight is too large for half precision."""
        dtype = getattr(torch, self.header.stored_as)
        weights = {name: tensor.to(dtype) for name, tensor in self.module.state_dict().items()}
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise InputError(
                f"{path}: a weight is not finite in {self.header.stored_as}: set training.stored_as: float32"
            )
        save_tensors(path, "network", asdict(self.header), weights)

    @classmethod
    def load(cls, path: Path) -> "StoredNetwork":
        """Read a network.

        Raises InputError, naming the file, where it is missing, damaged, or of another kind or architecture.
        """
        return cls.put_together(path, *load_tensors(path, "network"))

    @classmethod
    def put_together(cls, path: Path, raw: dict[str, Any], state: dict[str, Tensor]) -> "StoredNetwork":
        """A header as JSON has it and tensors by name, both read from `path`; raises InputError as `load` does."""
        try:
            tuples: dict[str, Any] = {key: tuple(raw[key]) for key in ("timestep_range", "stage_edges") if key in raw}
            header = NetworkHeader(**{**raw, **tuples})
            config = _config(header.kind, header.architecture)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} was written by another version ({error}): train it anew") from error
        if header.kind not in KINDS:
            raise InputError(f"{path} holds a network of kind {header.kind}, not one of {sorted(KINDS)}")
        module = KINDS[header.kind](config)
        expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if expected != found:
            differing = sorted(set(expected.items()) ^ set(found.items()))[:3]
            raise InputError(f"{path} does not fit its architecture; first differences: {differing}")
        module.load_state_dict(state)
        return cls(module, header)
