"""Single safetensors files that appear whole or not at all and say what kind of thing they hold."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

# One key: safetensors writes several metadata keys in an order that changes from process to process.
_HEADER_KEY = "duodiff_pipeline"

Arrays = Mapping[str, NDArray[Any]]


def content_sha256(header: Mapping[str, Any], arrays: Arrays) -> str:
    """sha256, in hexadecimal, of a JSON-able header and of the names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{name} {little_endian.dtype.str} {little_endian.shape}".encode())
        digest.update(little_endian.tobytes())
    return digest.hexdigest()


def save_arrays(path: Path, kind: str, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write arrays and a JSON-able header to `path`: written beside, fsynced, renamed.

    Equal content gives equal bytes. Raises OSError where the file cannot be written; nothing is left behind then.
    """
    metadata = {"kind": kind, "header": header, "sha256": content_sha256(header, arrays)}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(save(dict(arrays), metadata={_HEADER_KEY: json.dumps(metadata, sort_keys=True)}))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_arrays(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and the arrays that `save_arrays` wrote to `path` as `kind`.

    Raises ValueError, naming the file, where it is not safetensors, of another kind, or not what was written;
    OSError where it cannot be read.
    """
    raw = path.read_bytes()
    try:
        arrays = load(raw)
        # A safetensors file opens with the length of its JSON header, 8 bytes little-endian.
        preamble = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        metadata = json.loads(preamble.get("__metadata__", {}).get(_HEADER_KEY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a {kind} file: it is damaged or no safetensors file") from error
    found, header = metadata.get("kind", "foreign"), metadata.get("header", {})
    if found != kind:
        raise ValueError(f"{path} is not a {kind} file but a {found} file")
    if content_sha256(header, arrays) != metadata.get("sha256"):
        raise ValueError(f"{path} is damaged: its content does not have the sha256 that it states")
    return header, arrays
