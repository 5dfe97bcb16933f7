"""What can be broken in a project before a command: each function makes one that takes the project's folder."""

import gzip
import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from duodiff_pipeline.files import load_tensors, save_tensors
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.metrics.classifier import FeatureClassifier
from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.tables import load_table, save_table

# breaks something; returns what the message has to name
Break = Callable[[Path], Mapping[str, Any] | None]

MODELS = "data/06_models/test"
PARAMETERS = "conf/test/parameters.yml"
TRAIN_DEEP = "data/.work/test/train_deep/*"
JOURNAL = "data/.work/test/switch_search/*/journal.log"


def nothing(project: Path) -> None:
    """For mistakes on the command line."""


def one(project: Path, pattern: str) -> Path:
    (path,) = project.glob(pattern)
    return path


def written(name: str, text: str) -> Break:
    """A file of that text in the place of any other."""
    return lambda project: (project / name).write_text(text) and None


def added(text: str, name: str = PARAMETERS) -> Break:
    def break_(project: Path) -> None:
        with (project / name).open("a") as file:
            file.write(text)

    return break_


def replaced(old: str, new: str, name: str = PARAMETERS) -> Break:
    def break_(project: Path) -> None:
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new, 1))

    return break_


def removed(*patterns: str) -> Break:
    def break_(project: Path) -> None:
        for path in [path for pattern in patterns for path in project.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return break_


def folder_instead(pattern: str) -> Break:
    """A folder where a file should be."""

    def break_(project: Path) -> Mapping[str, Any]:
        path = next(project.glob(pattern), project / pattern)
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)
        return {"file": path}

    return break_


def flipped(pattern: str, part: float = 0.98) -> Break:
    """One bit of a file, that far from its beginning."""

    def break_(project: Path) -> Mapping[str, Any]:
        path = one(project, pattern)
        content = bytearray(path.read_bytes())
        content[int(part * len(content))] ^= 1
        path.write_bytes(content)
        return {"file": path}

    return break_


def truncated(pattern: str, kept: int = 100) -> Break:
    def break_(project: Path) -> Mapping[str, Any]:
        path = one(project, pattern)
        os.truncate(path, kept)
        return {"file": path}

    return break_


def edited(pattern: str, change: Callable[[Any], Any]) -> Break:
    """A JSON file changed by hand; what the change returns is what the message has to name."""

    def break_(project: Path) -> Any:
        path = one(project, pattern)
        content = json.loads(path.read_text())
        named = change(content)
        path.write_text(json.dumps(content))
        return {"file": path, **(named or {})}

    return break_


def header_changed(name: str, **changes: Any) -> Break:
    """A network file that says something else of itself."""

    def break_(project: Path) -> None:
        path = project / MODELS / f"{name}.safetensors"
        stored = StoredNetwork.load(path)
        replace(stored, header=replace(stored.header, **changes)).save(path)

    return break_


def header_lacks(name: str, key: str) -> Break:
    def break_(project: Path) -> None:
        path = project / MODELS / f"{name}.safetensors"
        header, tensors = load_tensors(path, "network")
        del header[key]
        save_tensors(path, "network", header, {name: tensor.clone() for name, tensor in tensors.items()})

    return break_


def copied(source: str, target: str) -> Break:
    return lambda project: shutil.copy(project / MODELS / source, project / MODELS / target) and None


def altered_table(pattern: str) -> Break:
    """A table of which one value was changed, by a program that keeps everything else."""

    def break_(project: Path) -> None:
        path = one(project, pattern)
        table = pq.read_table(path)
        *_, last = table.schema
        values = table[last.name].to_pylist()
        values[0] += 1
        pq.write_table(table.set_column(len(table.schema) - 1, last, pa.array(values, last.type)), path)

    return break_


def training_removed(project: Path) -> Mapping[str, Any]:
    """Of the deep network, with all that it came to; returns where it will be again."""
    folder = one(project, TRAIN_DEEP)
    shutil.rmtree(folder)
    return {"file": folder}


def study_removed(project: Path) -> Mapping[str, Any]:
    """The journal, not the measurements; returns where it will be again."""
    journal = one(project, JOURNAL)
    journal.unlink()
    return {"file": journal}


def foreign_safetensors(project: Path) -> None:
    save_file({"weight": torch.zeros(3)}, project / MODELS / "deep.safetensors")


def mirrored_training_images(project: Path) -> None:
    path = project / "data/03_primary/test/train.safetensors"
    pack = ImagePack.load(path)
    replace(pack, images=pack.images.flip(-1), labels=pack.labels.clone()).save(path)


def other_extractor(project: Path) -> None:
    path = project / MODELS / "extractor.safetensors"
    extractor = FeatureClassifier.load(path)
    torch.nn.init.ones_(extractor.head.bias)
    extractor.save(path)


def extractor_file(project: Path) -> Mapping[str, Any]:
    content = b"something else"
    (project / "inception.pt").write_bytes(content)
    return {"found": hashlib.sha256(content).hexdigest()}


class _Payload:
    """Unpickled, it makes a folder named EXECUTED where it stands."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("EXECUTED",)


def executing_network(project: Path) -> None:
    torch.save({"state_dict": _Payload()}, project / MODELS / "deep.safetensors")


def executing_official_checkpoint(project: Path) -> None:
    torch.save({"model_state_dict": {}, "args": _Payload()}, project / "nnet.pth")


def checkpoint(damage: Callable[[Path], object]) -> Break:
    """The training of the deep network stands at a checkpoint that was damaged."""

    def break_(project: Path) -> Mapping[str, Any]:
        one(project, f"{TRAIN_DEEP}/result.json").unlink()
        path = one(project, f"{TRAIN_DEEP}/*.ckpt")
        damage(path)
        return {"file": path}

    return break_


def executing(path: Path) -> None:
    torch.save({"state_dict": _Payload()}, path)


def executing_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Payload()))


def flipped_weight(path: Path) -> None:
    """One bit of a weight, in the middle of the first tensor's bytes."""
    content = path.read_bytes()
    weights = next(iter(torch.load(path, weights_only=True)["state_dict"].values())).numpy().tobytes()
    where = content.index(weights) + len(weights) // 2
    path.write_bytes(content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :])


def curves_of_other_networks(project: Path) -> None:
    path = project / "data/08_reporting/test/switch_curves.parquet"
    save_table(path, load_table(path).assign(measured_with="of an earlier run"))


def idx_folder(**changes: np.ndarray | bytes | None) -> Break:
    """The four files of the MNIST family: 40 images of 9x9 and labels each; changes: by name, None for no file."""

    def break_(project: Path) -> None:
        images, labels = np.arange(40 * 81, dtype=np.uint8).reshape(40, 9, 9), np.arange(40, dtype=np.uint8) % 4
        content = {"train_images": images, "train_labels": labels, "t10k_images": images, "t10k_labels": labels}
        (project / "idx").mkdir()
        for name, array in {**content, **changes}.items():
            split, what = name.split("_")
            path = project / "idx" / f"{split}-{what}-idx{3 if what == 'images' else 1}-ubyte.gz"
            if array is not None:
                path.write_bytes(array if isinstance(array, bytes) else gzip.compress(idx_bytes(array)))

    return break_


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def image_folder(**changed: Image.Image | bytes) -> Break:
    """Sixteen images of 12x12 pixels in `photos`, of which those of these names are others."""

    def break_(project: Path) -> None:
        (project / "photos").mkdir()
        for i in range(16):
            name = f"image_{i:02}"
            image = changed.get(name, Image.new("RGB", (12, 12), (16 * i, 0, 0)))
            path = project / "photos" / f"{name}.png"
            path.write_bytes(image) if isinstance(image, bytes) else image.save(path)

    return break_
