"""Kedro datasets: files that appear whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset
from torch import Tensor

from ..analysis.denoiser_similarity import DenoiserDifferences
from ..errors import InputError
from ..files import ANEW, load_tensors, save_tensors, stored_kind, whole_file
from ..images.latents import LatentPack
from ..images.pack import ImagePack
from ..metrics import torchscript
from ..metrics.classifier import FeatureClassifier
from ..metrics.extractor import FeatureExtractor
from ..metrics.reference import ReferenceStatistics
from ..networks.files import StoredNetwork
from ..tables import load_table, save_table


class FileDataset(AbstractDataset[Any, Any]):
    """A file by path; subclasses say how to read and write it."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self.path = Path(filepath)
        self.metadata = metadata

    @property
    def paths(self) -> list[Path]:
        """All that `save` writes, files and folders."""
        return [self.path]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path)}

    def _exists(self) -> bool:
        return self.path.is_file()


class Json(FileDataset):
    """A JSON value, indented, keys in the order given."""

    def load(self) -> Any:
        _require(self.path)
        try:
            return json.loads(self.path.read_bytes())
        except ValueError as error:
            raise InputError(f"{self.path} is damaged, it holds no JSON ({error}): {ANEW}") from error

    def save(self, data: Any) -> None:
        with whole_file(self.path) as beside:
            beside.write_text(json.dumps(data, indent=2) + "\n")


class Text(FileDataset):
    """A text, such as an HTML page."""

    def load(self) -> str:
        _require(self.path)
        return self.path.read_text()

    def save(self, data: str) -> None:
        with whole_file(self.path) as beside:
            beside.write_text(data)


class MarkdownPage(FileDataset):
    """A page with its figures, SVG by name, which it links as `figures/<name>.svg`.

    They are kept in a folder of the page's name beside it, so that several pages can share a folder.
    """

    def load(self) -> tuple[str, dict[str, str]]:
        _require(self.path)
        return self.path.read_text().replace(f"]({self.path.stem}/", "](figures/"), Figures(str(self._folder)).load()

    def save(self, data: tuple[str, dict[str, str]]) -> None:
        text, figures = data
        Figures(str(self._folder)).save(figures)
        with whole_file(self.path) as beside:
            beside.write_text(text.replace("](figures/", f"]({self.path.stem}/"))

    @property
    def paths(self) -> list[Path]:
        return [self.path, self._folder]

    @property
    def _folder(self) -> Path:
        return self.path.with_suffix("")


class Figures(FileDataset):
    """A folder of SVG figures by name."""

    def load(self) -> dict[str, str]:
        return {path.stem: path.read_text() for path in sorted(self.path.glob("*.svg"))}

    def save(self, data: dict[str, str]) -> None:
        for name, svg in data.items():
            with whole_file(self.path / f"{name}.svg") as beside:
                beside.write_text(svg)

    def _exists(self) -> bool:
        return self.path.is_dir()


class Table(FileDataset):
    """A pandas table in parquet."""

    def load(self) -> pd.DataFrame:
        _require(self.path)
        return load_table(self.path)

    def save(self, data: pd.DataFrame) -> None:
        save_table(self.path, data)


class ImagePackFile(FileDataset):
    """An `ImagePack`."""

    def load(self) -> ImagePack:
        return ImagePack.load(self.path)

    def save(self, data: ImagePack) -> None:
        data.save(self.path)


class LatentPackFile(FileDataset):
    """A `LatentPack`."""

    def load(self) -> LatentPack:
        return LatentPack.load(self.path)

    def save(self, data: LatentPack) -> None:
        data.save(self.path)


class Extractor(FileDataset):
    """A `FeatureExtractor` of either kind."""

    def load(self) -> FeatureExtractor:
        scripted = stored_kind(self.path) == torchscript.KIND
        return torchscript.TorchScriptExtractor.load(self.path) if scripted else FeatureClassifier.load(self.path)

    def save(self, data: FeatureExtractor) -> None:
        data.save(self.path)


class Images(FileDataset):
    """Images (N, C, H, W) uint8 by name."""

    def load(self) -> dict[str, Tensor]:
        return load_tensors(self.path, "images")[1]

    def save(self, data: dict[str, Tensor]) -> None:
        save_tensors(self.path, "images", {}, data)


class Network(FileDataset):
    """A `StoredNetwork` of any kind this project makes."""

    def load(self) -> StoredNetwork:
        return StoredNetwork.load(self.path)

    def save(self, data: StoredNetwork) -> None:
        data.save(self.path)


class Differences(FileDataset):
    """`DenoiserDifferences`."""

    def load(self) -> DenoiserDifferences:
        return DenoiserDifferences.load(self.path)

    def save(self, data: DenoiserDifferences) -> None:
        data.save(self.path)


class Reference(FileDataset):
    """`ReferenceStatistics`."""

    def load(self) -> ReferenceStatistics:
        return ReferenceStatistics.load(self.path)

    def save(self, data: ReferenceStatistics) -> None:
        data.save(self.path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} does not exist: run the pipeline that makes it first")
