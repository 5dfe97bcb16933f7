"""The autoencoder whose latents networks learn from: diffusers' `AutoencoderKL`, loaded once and kept with the latents.

Symbols: x (N, C, H, W) images in [-1, 1]; m and s (N, c, h, w), mean and standard deviation of their posterior; what
networks see is z = scale (m + s eps - shift), scale and shift being in the autoencoder's configuration.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError
from ..files import content_sha256
from .pixels import from_uint8, to_uint8

# Of attention, in files of Stable Diffusion's autoencoders, and what diffusers calls it now
OLDER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """config: the arguments of `AutoencoderKL`; state: its weights, float32; batch_images: encoded or decoded at once,
    always that many, the last being padded: kernels round differently for other numbers.
    """

    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    batch_images: int

    @classmethod
    def open(cls, folder: Path, batch_images: int) -> "Autoencoder":
        """Of a folder in diffusers' layout: config.json and safetensors, so that nothing is unpickled.

        Raises InputError, naming the file, where it is missing, damaged or of another architecture.
        """
        path = folder / CONFIG
        try:
            config = json.loads(path.read_text())
            path = folder / WEIGHTS
            state = load_file(path)
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(
                f"{path} is missing or damaged: data_preparation.autoencoder needs a folder with {CONFIG} and {WEIGHTS}"
            ) from error
        if config.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
            raise InputError(f"{folder / CONFIG} is of {config['_class_name']}, but latents need an AutoencoderKL")
        kept = {name: value for name, value in config.items() if not name.startswith("_")}
        found = cls(kept, {_newer(name): tensor.float() for name, tensor in state.items()}, batch_images)
        try:
            _ = found.module
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{path} does not fit {folder / CONFIG}: take both from one autoencoder") from error
        return found

    @cached_property
    def sha256(self) -> str:
        """Of its configuration and weights, wherever they came from."""
        return content_sha256(dict(self.config), self.state)

    @cached_property
    def module(self) -> Any:
        """The AutoencoderKL, in float32."""
        from diffusers import AutoencoderKL

        module: Any = AutoencoderKL.from_config(dict(self.config))  # type: ignore[no-untyped-call]
        module.load_state_dict(dict(self.state))
        return module.eval().requires_grad_(False)

    @property
    def scale(self) -> float:
        return float(self.config.get("scaling_factor") or 0.18215)  # as diffusers has it where it is not said

    @property
    def shift(self) -> float:
        return float(self.config.get("shift_factor") or 0.0)

    @property
    def shrinks(self) -> int:
        """Pixels a side behind one latent."""
        return int(2 ** (len(self.config["block_out_channels"]) - 1))

    def latent_shape(self, image_chw: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w); raises InputError where it takes no images of that shape."""
        channels, height, width = image_chw
        if channels != self.config["in_channels"] or height % self.shrinks or width % self.shrinks:
            raise InputError(
                f"the autoencoder takes images of {self.config['in_channels']} channels and a multiple of "
                f"{self.shrinks} pixels a side, not {image_chw}: set data_preparation.image_size or mode"
            )
        return int(self.config["latent_channels"]), height // self.shrinks, width // self.shrinks

    def image_shape(self, latent_chw: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of what latents of that shape are decoded to."""
        _, height, width = latent_chw
        return int(self.config["out_channels"]), height * self.shrinks, width * self.shrinks

    def encode(self, images_u8: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """m and s, (N, 2, c, h, w) float32 on the CPU, of uint8 images (N, C, H, W)."""

        def posterior(x: Tensor) -> Tensor:
            found = self.module.encode(from_uint8(x)).latent_dist
            return torch.stack([found.mean, found.std], dim=1)

        return self._in_batches(posterior, images_u8, device)

    def scaled(self, latents_nchw: Tensor) -> Tensor:
        """Latents as networks see them."""
        return (latents_nchw - self.shift) * self.scale

    def decode(self, z_nchw: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """uint8 images (N, C, H, W) on the CPU, of latents as networks see them."""
        return self._in_batches(lambda z: to_uint8(self.decoder(z)), z_nchw, device)

    @property
    def decoder(self) -> nn.Module:
        """From latents as networks see them to images that reach about [-1, 1]."""
        return _Decoder(self.module, self.scale, self.shift)

    def _in_batches(self, run: Callable[[Tensor], Tensor], rows: Tensor, device: torch.device | str) -> Tensor:
        self.module.to(device)
        found = list[Tensor]()
        with torch.inference_mode():
            for start in range(0, len(rows), self.batch_images):
                batch = rows[start : start + self.batch_images]
                padding = batch.new_zeros(self.batch_images - len(batch), *batch.shape[1:])
                found.append(run(torch.cat([batch, padding]).to(device))[: len(batch)].cpu())
        return torch.cat(found)


def _newer(name: str) -> str:
    return re.sub(r"(?<=\.)(query|key|value|proj_attn)(?=\.)", lambda older: OLDER_NAMES[older[0]], name)


class _Decoder(nn.Module):
    def __init__(self, autoencoder: Any, scale: float, shift: float) -> None:
        super().__init__()
        self.autoencoder, self.scale, self.shift = autoencoder, scale, shift

    def forward(self, z_nchw: Tensor) -> Tensor:
        module: Any = self.autoencoder
        decoded: Tensor = module.decode(z_nchw / self.scale + self.shift).sample
        return decoded


def fetch_autoencoder(name: str, subfolder: str | None, revision: str | None) -> Path:
    """The folder of an autoencoder: below a folder here, or downloaded once from the hub into its cache.

    Raises InputError where it is neither.
    """
    here = Path(name).expanduser()
    if here.is_dir():
        return here / (subfolder or "")
    if name.startswith((".", "~", "/")):
        raise InputError(f"data_preparation.autoencoder.path: {name} is no folder")
    from huggingface_hub import snapshot_download

    logger.info("looking for the autoencoder %s on the Hugging Face hub", name)
    files = [f"{subfolder}/{file}" if subfolder else file for file in (CONFIG, WEIGHTS)]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files)) / (subfolder or "")
    except Exception as error:  # of the network, of the hub's client, of its names
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"the autoencoder {name} is no folder here and cannot be had from the Hugging Face hub ({reason}): look at "
            "its name and at the network, or set data_preparation.autoencoder.path to a folder in diffusers' layout"
        ) from error
