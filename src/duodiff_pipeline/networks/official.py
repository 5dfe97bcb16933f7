"""Checkpoints in the official layout of U-ViT: import, and export to it and to a folder in diffusers' style.

U-ViT (Bao et al., CVPR 2023) publishes bare state dicts, of averaged weights. DuoDiff (arXiv 2410.09633) wraps one, of
raw weights, as `model_state_dict` in what a training needs to go on, of which `args` is a pickled argparse.Namespace.
`UViT` has the official names and layouts (q|k|v, patches as (p, p, C), positions of [label,] time and patches), so that
tensors pass unchanged, and whether a file fits an architecture is whether names and shapes are those of the `UViT` that
the architecture makes. Neither layout tells the number of attention heads or what a network takes as time.

Time: official pixel networks were trained in continuous time and see 0.999 (n + 1) at timestep n; DuoDiff's code feeds
them n, as `timestep_scale` 1 does here, which is less than one timestep away throughout. DuoDiff's own networks for
CIFAR-10 and CelebA were trained on n / 1000: `timestep_scale` 0.001. All of them belong to linear noise of 1000
timesteps.
"""

import argparse
import hashlib
import json
import logging
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..diffusion.noise import NoiseSchedule
from ..errors import InputError
from ..files import whole_file
from .files import StoredNetwork
from .uvit import UViT, UViTConfig

logger = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]

_WRAPPED_AS = "model_state_dict"
_TELLING = {"pos_embed": 3, "patch_embed.proj.weight": 4, "mid_block.mlp.fc1.weight": 2}  # dimensions
_LISTED = 20
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def import_checkpoint(
    path: Path | str,
    heads: int,
    timestep_scale: float = 1.0,
    predicts: Literal["noise", "image"] = "noise",
    noise: NoiseSchedule | None = None,
    null_class: bool = False,
    sha256: str | None = None,
) -> UViT:
    """The network in a checkpoint of U-ViT or DuoDiff, in evaluation mode; it is a `Denoiser`.

    What the tensors tell is read from them; for the rest see `UViTConfig`. noise: the schedule it was trained on, by
    default linear with 1000 timesteps; sha256: what that of the file must be.
    Raises InputError where the file is missing, damaged, another one, holds more than tensors, plain values and
    argparse.Namespace, or does not fit: one message lists names and shapes.
    """
    checkpoint = Checkpoint.read(Path(path), sha256)
    return checkpoint.network(heads, timestep_scale, predicts, noise or NoiseSchedule(), null_class)


@dataclass(frozen=True)
class Checkpoint:
    """What a foreign file holds.

    path, sha256: of the file; state: tensors by name; weights: averaged in a bare state dict, raw in a wrapped one.
    """

    path: Path
    sha256: str
    state: Mapping[str, Tensor]
    weights: Literal["raw", "ema"]

    @classmethod
    def read(cls, path: Path, sha256: str | None = None) -> "Checkpoint":
        """See `import_checkpoint`. The sha256 is logged, and compared before anything of the file is unpickled."""
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        logger.info("%s: sha256 %s", path, found)
        if sha256 is not None and found != sha256:
            raise InputError(f"{path} has the sha256 {found}, not {sha256}: it is another file, or damaged")
        content = _unpickled(path)
        wrapped = isinstance(content, dict) and _WRAPPED_AS in content
        state = content[_WRAPPED_AS] if wrapped else content
        kinds = [(type(name), isinstance(t, Tensor)) for name, t in state.items()] if isinstance(state, dict) else []
        if set(kinds) != {(str, True)}:
            raise InputError(f"{path} holds no state dict, neither bare nor as {_WRAPPED_AS}")
        return cls(path, found, state, "raw" if wrapped else "ema")

    @property
    def num_classes(self) -> int:
        """Label embeddings."""
        embeddings = self.state.get("label_emb.weight")
        return len(embeddings) if embeddings is not None and embeddings.dim() == 2 else 0

    def network(
        self,
        heads: int,
        timestep_scale: float,
        predicts: Literal["noise", "image"],
        noise: NoiseSchedule,
        null_class: bool,
    ) -> UViT:
        """See `import_checkpoint`."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.state.items()}
        lacking = [name for name, dimensions in _TELLING.items() if sum(map(bool, shapes.get(name, ()))) != dimensions]
        if lacking:
            raise InputError(f"{self.path} holds no U-ViT: there is no {', '.join(lacking)}, but {_listed(shapes)}")
        extra_tokens = 2 if self.num_classes else 1
        width, channels, patch, _ = shapes["patch_embed.proj.weight"]
        try:
            config = UViTConfig(
                image_size=patch * math.isqrt(max(1, shapes["pos_embed"][1] - extra_tokens)),
                channels=channels,
                patch=patch,
                width=width,
                depth=2 * len({name.split(".")[1] for name in shapes if name.startswith("in_blocks.")}) + 1,
                heads=heads,
                num_classes=self.num_classes,
                timestep_scale=timestep_scale,
                predicts=predicts,
                noise=noise,
                null_class=null_class,
                mlp_ratio=shapes["mid_block.mlp.fc1.weight"][0] // width,
                final_conv="final_layer.weight" in shapes,
            )
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in UViT(config).state_dict().items()}
        if shapes != expected:
            raise InputError(f"{self.path} is not laid out as a U-ViT: {_differences(shapes, expected)}")
        odd = [
            name
            for name, tensor in self.state.items()
            if not (tensor.is_floating_point() and bool(tensor.isfinite().all()))
        ]
        if odd:
            raise InputError(f"{self.path}: {', '.join(odd[:_LISTED])} must hold finite floating-point numbers")
        network = UViT(config)
        network.load_state_dict(self.state)
        return network.eval().requires_grad_(False)


def _unpickled(path: Path) -> Any:
    """Tensors, plain values and argparse.Namespace; raises InputError, naming the first other type, for all else."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):  # torch checks no sums
                raise InputError(f"{path} is damaged, at {damaged}")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"{named[1]}, which is not loaded" if named else "something that is not loaded"
        raise InputError(
            f"{path} is damaged or holds {what}: a checkpoint may hold tensors, plain values and argparse.Namespace"
        ) from error
    except InputError:
        raise
    except Exception as error:  # what a damaged file comes to depends on where it is damaged
        raise InputError(f"{path} is damaged or no checkpoint of PyTorch") from error


def _listed(shapes: Shapes) -> str:
    more = f" and {len(shapes) - _LISTED} more" if len(shapes) > _LISTED else ""
    return ", ".join(f"{name} {shape}" for name, shape in [*shapes.items()][:_LISTED]) + more


def _differences(found: Shapes, expected: Shapes) -> str:
    lacking = {name: shape for name, shape in expected.items() if name not in found}
    unknown = {name: shape for name, shape in found.items() if name not in expected}
    others = [name for name, shape in expected.items() if found.get(name, shape) != shape]
    other = {f"{name} {found[name]} instead of": expected[name] for name in others}
    parts = [
        f"it lacks {_listed(lacking)}" if lacking else "",
        f"it has {_listed(unknown)} besides" if unknown else "",
        f"it has {_listed(other)}" if other else "",
    ]
    return "; ".join(part for part in parts if part)


def export_official(stored: StoredNetwork, path: Path) -> None:
    """Write a backbone as a bare state dict in the official layout, as U-ViT's are published.

    It tells nothing but the weights: heads, `timestep_scale`, what it predicts and the noise schedule are for who loads
    it to know. Raises InputError for early exits, and for a network of one stage, which a checkpoint cannot tell.
    """
    network, (low, high) = _backbone(stored), stored.header.timestep_range
    if (low, high) != (0, network.config.noise.timesteps):
        raise InputError(f"{path}: a network trained for timesteps [{low:g}, {high:g}) alone has no official layout")
    with whole_file(path) as beside, beside.open("wb") as file:
        torch.save(_tensors(network), file)


def export_diffusers(stored: StoredNetwork, folder: Path) -> None:
    """Write a backbone as a folder in diffusers' style: config.json and diffusion_pytorch_model.safetensors.

    What can load it: `import_diffusers`, and by hand whatever reads safetensors, since the tensors have the official
    names. Diffusers itself has no class for this architecture, so its `from_pretrained` cannot.
    config.json: `_class_name` UViT; the fields of `UViTConfig`, all that `forward` depends on; `header`, the rest of
    `NetworkHeader`; and `sha256`, `StoredNetwork`'s. Raises InputError for early exits.
    """
    network = _backbone(stored)
    header = asdict(stored.header)
    config = {"_class_name": "UViT", **header.pop("architecture"), "header": header, "sha256": stored.sha256}
    with whole_file(folder / WEIGHTS) as beside:
        save_file(_tensors(network), beside, {"format": "pt"})
    with whole_file(folder / CONFIG) as beside:
        beside.write_text(json.dumps(config, indent=2) + "\n")


def import_diffusers(folder: Path) -> StoredNetwork:
    """What `export_diffusers` wrote; raises InputError, naming the file, where it is missing, damaged or another."""
    path = folder / CONFIG
    try:
        architecture = json.loads(path.read_text())
        header, sha256 = architecture.pop("header"), architecture.pop("sha256")
        del architecture["_class_name"]
        path = folder / WEIGHTS
        state = load_file(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{path} is missing, damaged or not what is exported here") from error
    stored = StoredNetwork.put_together(path, {**header, "architecture": architecture}, state)
    if stored.sha256 != sha256:
        raise InputError(f"{folder} is damaged, its content does not have the sha256 that it states")
    return stored


def _backbone(stored: StoredNetwork) -> UViT:
    if not isinstance(stored.module, UViT):
        raise InputError(f"a network of kind {stored.header.kind} is no backbone, and has no other layout")
    return stored.module


def _tensors(network: UViT) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
