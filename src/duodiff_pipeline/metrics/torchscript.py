"""Any TorchScript file as feature extractor, such as the literature's Inception network.

That one is the TensorFlow network of Heusel et al. as TorchScript, `inception-2015-12-05.pt` of NVIDIA's StyleGAN
(sha256 f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4): it takes uint8 RGB images (N, 3, H, W) of any
size, scales them itself, and gives features (N, 2048) when called with `return_features=True`.
"""

import hashlib
import http.client
import io
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from torch import Tensor

from ..errors import InputError
from ..files import load_tensors, save_tensors, whole_file

logger = logging.getLogger(__name__)

KIND = "TorchScript feature extractor"
FLAG = "return_features"
CHUNK_BYTES = 2**20
TIMEOUT_SECONDS = 60  # of silence


class TorchScriptExtractor:
    """The scripted module in a file's bytes; keeps the `FeatureExtractor` contract.

    It is called with uint8 images (N, 3, H, W), grey ones repeated to three channels, and `return_features=True` where
    it has such an argument.

    Raises InputError where the bytes are no TorchScript file.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self._content = name, content
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            load: Callable[..., Any] = torch.jit.load
            self.module = load(io.BytesIO(content), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{name} is no TorchScript file that this version of PyTorch can load") from error
        known = {argument.name for argument in self.module.forward.schema.arguments}
        self._options = {FLAG: True} if FLAG in known else {}
        self._device = torch.device("cpu")

    def __call__(self, images_u8: Tensor) -> Tensor:
        """Features (N, D) of uint8 images (N, 1 or 3, H, W); raises InputError where the module gives anything else."""
        colour = images_u8.expand(-1, 3, -1, -1) if images_u8.shape[1] == 1 else images_u8
        try:
            features = self.module(colour.to(self._device), **self._options)
        except (RuntimeError, torch.jit.Error) as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"{self.name} fails on images of shape {tuple(colour.shape[1:])}: {reason}") from error
        if not isinstance(features, Tensor) or features.shape[:-1] != (len(images_u8),):
            found = f"of shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"{self.name} gives {found} for {len(images_u8)} images, not one row of features each")
        return features

    def to(self, device: torch.device | str) -> "TorchScriptExtractor":
        self._device = torch.device(device)
        self.module.to(self._device)
        return self

    def save(self, path: Path) -> None:
        """Write the module's bytes to one safetensors file."""
        archive = torch.frombuffer(bytearray(self._content), dtype=torch.uint8)
        save_tensors(path, KIND, {"name": self.name}, {"archive": archive})

    @classmethod
    def load(cls, path: Path) -> "TorchScriptExtractor":
        """The extractor that `save` wrote; raises what `load_tensors` raises."""
        header, tensors = load_tensors(path, KIND)
        return cls(header["name"], tensors["archive"].numpy().tobytes())

    @classmethod
    def open(cls, path: Path, sha256: str) -> "TorchScriptExtractor":
        """Of a TorchScript file; raises InputError where it is missing or has another sha256, before it is loaded."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise InputError(f"{path} has the sha256 {found}, not {sha256}")
        return cls(path.name, content)

    @staticmethod
    def downloaded(url: str, sha256: str, folder: Path) -> Path:
        """Where `fetch` keeps it."""
        return folder / sha256[:12] / unquote(Path(urlsplit(url).path).name)

    @classmethod
    def fetch(cls, url: str, sha256: str, folder: Path) -> "TorchScriptExtractor":
        """Of a TorchScript file at a URL, downloaded into a folder where it is not there yet.

        Raises InputError where it cannot be had, and where it has another sha256, which is then not kept.
        """
        path = cls.downloaded(url, sha256, folder)
        if not path.is_file():
            _download(url, sha256, path)
        return cls.open(path, sha256)


def _download(url: str, sha256: str, path: Path) -> None:
    logger.info("downloading %s to %s", url, path)
    digest = hashlib.sha256()
    with whole_file(path) as beside:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as source, beside.open("wb") as file:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise InputError(
                f"{url} cannot be downloaded ({reason}): save it elsewhere and give its path in place of the URL"
            ) from error
        if digest.hexdigest() != sha256:
            raise InputError(f"{url} gives a file of sha256 {digest.hexdigest()}, not {sha256}")
