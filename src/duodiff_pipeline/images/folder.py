"""A folder of image files, nested or not: which files it holds, in an order of its own, and their classes."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NoReturn

import torch
from torch import Tensor

from ..errors import InputError
from .decoding import image_suffixes

Labels = Literal["subfolders", "none"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFolder:
    """paths: of N images below `root`, sorted by relative path; classes: names, sorted, or none; labels: (N,) int64."""

    root: Path
    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    labels: Tensor

    @cached_property
    def sha256(self) -> str:
        """Of relative paths and content of all files, in hexadecimal."""
        digest = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{content} {_name(path, self.root)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def find_images(root: Path, labels: Labels) -> ImageFolder:
    """All files below `root` whose suffix is that of an image; hidden files and folders are passed over.

    labels: subfolders makes every first-level subfolder a class (of a folder without subfolders, one class), none
    makes all images one class. Other files are ignored, with one line in the log.

    Raises InputError where the folder is missing, cannot be read or holds no image, where it reaches one of its folders
    twice by links, where images lie beside subfolders that are classes, and where a class has a single image.
    """
    if not root.is_dir():
        raise InputError(f"{root} {'is no folder' if root.exists() else 'does not exist'}: data_preparation.folder")
    found, ignored = list[Path](), Counter[str]()
    for path in _files(root):
        suffix = path.suffix.lower()
        if suffix in image_suffixes():
            found.append(path)
        else:
            ignored[suffix or "no suffix"] += 1
    others = ", ".join(f"{n} {suffix}" for suffix, n in sorted(ignored.items()))
    if not found:
        raise InputError(
            f"{root} holds no image; read are {' '.join(image_suffixes())}{f', not {others}' * bool(others)}"
        )
    if ignored:
        logger.info("%s: %d files are ignored, being no images by their suffix: %s", root, ignored.total(), others)
    found.sort(key=lambda path: _name(path, root))
    names = _classes(found, root) if labels == "subfolders" else [""] * len(found)
    classes = sorted(set(names))
    if classes == [""]:
        return ImageFolder(root, tuple(found), (), torch.zeros(len(found), dtype=torch.int64))
    number = {name: i for i, name in enumerate(classes)}
    return ImageFolder(root, tuple(found), tuple(classes), torch.tensor([number[name] for name in names]))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _classes(paths: list[Path], root: Path) -> list[str]:
    """The first-level subfolder of every path; empty where none of them has one."""
    names = [parts[0] if len(parts) > 1 else "" for parts in (path.relative_to(root).parts for path in paths)]
    counts = Counter(names)
    way_out = "or set data_preparation.labels: none"
    if 0 < counts[""] < len(names):
        beside = paths[names.index("")]
        raise InputError(f"{beside} lies beside subfolders, each of which is a class: move it into one, {way_out}")
    alone = sorted(name for name, n in counts.items() if name and n == 1)
    if alone:
        single = paths[names.index(alone[0])]
        raise InputError(
            f"{single} is the only image of its class, and the split needs 2: add or remove one, {way_out}"
        )
    return names


def _files(root: Path) -> Iterator[Path]:
    """Every file below `root` that is not hidden, links followed."""
    places = dict[str, str]()
    for place, folders, names in os.walk(root, onerror=_unreadable, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        known = places.setdefault(os.path.realpath(place), place)
        if known != place:
            raise InputError(f"{place} is {known} once more, by a link: remove the link")
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _unreadable(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
