"""Images of a Hugging Face dataset, on the hub or as parquet files or folders here, read as a stream.

Nothing is downloaded as a whole: what is held is a row group of one parquet file, or one image file.
"""

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetBuilder, IterableDataset

SAME_HERE = "or name a parquet file, or a folder of a dataset's files, that lies here"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubImages:
    """dataset: name on the hub, or path of a parquet file, which is a split `train`, or of a folder in one of the
    layouts that `datasets.load_dataset` knows. configuration, revision: of a dataset on the hub; None, its default.
    image, label: columns; without label all images are of one class.

    A split is the dataset's name for it; `a+b` is both, `all` all of them.
    """

    dataset: str
    configuration: str | None
    revision: str | None
    image: str
    label: str | None

    @cached_property
    def identity(self) -> str:
        """sha256 of the names and content of files here, of the names and the commit of those on the hub."""
        digest = hashlib.sha256()
        for split, files in sorted((self._builder.config.data_files or {}).items()):
            for file in files:
                content = ""
                if (here := Path(file)).is_file():
                    with here.open("rb") as opened:
                        content = hashlib.file_digest(opened, "sha256").hexdigest()
                    file = os.path.relpath(here, Path(self.dataset).expanduser())
                digest.update(f"{split} {file} {content}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def labels(self, split: str) -> Tensor:
        """(N,) int64 of all images, for which only their column is read; raises what `pictures` raises.

        Raises InputError where they are not whole numbers from 0 on.
        """
        stream = self._stream(split)
        if self.label is None:
            others = [name for name in stream.features or {} if name != self.image]  # so that no image is read
            counted = stream.select_columns([*others, self.image][:1])
            return torch.zeros(sum(1 for _ in self._rows(counted)), dtype=torch.int64)
        found = [row[self.label] for row in self._rows(stream.select_columns([self.label]))]
        odd = [label for label in found if isinstance(label, bool) or not isinstance(label, int) or label < 0]
        if odd:
            what = f"{self.dataset}: {len(odd)} of {len(found)} labels of split {split} in column {self.label!r}"
            raise InputError(f"{what} are no whole numbers from 0 on, such as {odd[0]!r}: name another column or null")
        return torch.tensor(found, dtype=torch.int64)

    def pictures(self, split: str, first: int = 0) -> Iterator[tuple[str, BinaryIO]]:
        """Name and encoded content of every image from number `first` on, in the dataset's order.

        Raises InputError where the dataset cannot be reached or has no such split or column of images.
        """
        from datasets import Image, Value

        stream = self._stream(split)
        kind = (stream.features or {})[self.image]
        bare = kind == Value("binary") or (isinstance(kind, dict) and kind.get("bytes") == Value("binary"))
        if not bare and not isinstance(kind, Image):
            raise InputError(f"{self.dataset}: column {self.image!r} holds no images: set data_preparation.hub.image")
        encoded = stream.select_columns([self.image]).cast_column(self.image, Image(decode=False))
        for number, row in enumerate(self._rows(encoded.skip(first)), start=first):
            name, image = f"{self.dataset}, split {split}, image {number}", row[self.image]
            if image is None:
                raise InputError(f"{name} is missing there: choose another split or dataset")
            yield name, io.BytesIO(image["bytes"] or self._reached(partial(_content, image["path"])))

    @cached_property
    def _builder(self) -> "DatasetBuilder":
        from datasets import load_dataset_builder

        here = Path(self.dataset).expanduser()
        if self.dataset.startswith((".", "~", "/")) or self.dataset.endswith(".parquet") or here.exists():
            if not here.exists():
                raise InputError(f"data_preparation.hub.dataset: {self.dataset} does not exist")
            name, files = (str(here), None) if here.is_dir() else ("parquet", {"train": str(here)})
            if self.revision is not None:
                raise InputError(f"data_preparation.hub.revision is for a dataset on the hub, not for {self.dataset}")
        else:
            name, files = self.dataset, None
            logger.info("looking for %s on the Hugging Face hub", name)
        try:
            return load_dataset_builder(name, self.configuration, data_files=files, revision=self.revision)
        except Exception as error:  # of requests, of the hub's client, of files and of configurations
            if here.exists():
                raise InputError(f"{self.dataset} cannot be read as a dataset: {_said(error)}") from error
            raise InputError(
                f"{self.dataset} cannot be had from the Hugging Face hub ({_said(error)}): look at its name and at the "
                f"network, log in with `hf auth login` where its licence must be accepted, {SAME_HERE}"
            ) from error

    def _stream(self, split: str) -> "IterableDataset":
        """Of a split that has the columns."""
        try:
            stream = self._builder.as_streaming_dataset(split)
        except ValueError as error:
            raise InputError(f"{self.dataset}: data_preparation.hub: {_said(error)}") from error
        except Exception as error:
            raise self._broken(error) from error
        assert not isinstance(stream, dict)
        features = stream.features or {}
        for column in (self.image, self.label):
            if column is not None and column not in features:
                raise InputError(
                    f"{self.dataset} has no column {column!r}, but {', '.join(features)}: "
                    "set data_preparation.hub.image and label"
                )
        return stream

    def _rows(self, stream: "IterableDataset") -> Iterator[dict[str, Any]]:
        rows = iter(stream)
        while (row := self._reached(lambda: next(rows, None))) is not None:
            yield row

    def _reached(self, read: Callable[[], Any]) -> Any:
        """What is read; raises InputError where that fails on the way, as a broken connection or file does."""
        try:
            return read()
        except Exception as error:  # of the network, of parquet, of its encodings
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> InputError:
        way_out = f"run it again, it goes on where it stopped, {SAME_HERE}"
        return InputError(f"{self.dataset} cannot be read to its end ({_said(error)}): {way_out}")


def _content(path: str) -> bytes:
    """Of a file here, on the hub or within an archive there."""
    import fsspec

    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
