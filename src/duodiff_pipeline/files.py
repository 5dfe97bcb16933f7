"""Files that appear whole or not at all, and what identifies their content."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import InputError

# One key: safetensors writes several metadata keys in an order that changes from process to process.
_METADATA_KEY = "duodiff_pipeline"
ANEW = "delete it and run the pipeline that makes it again"
# What the system refuses a writer for reasons that a user can mend: no space, no permission, something else in the way.
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR}
REFUSALS |= {errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO}


class _RefusedError(InputError):
    """Of a file that cannot be written; where it was to become another one, that is named instead."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name of `path` once it is safely on disk.

    Raises InputError where the system refuses that; see `writing`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with beside.open("rb+") as written:
                os.fsync(written.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises InputError, naming the path and the reason, where the system refuses what is written within."""
    try:
        yield
    except Exception as error:  # torch and safetensors have errors of their own for it
        reason = _refusal(error)
        if reason is None:
            raise
        raise _RefusedError(f"{path} cannot be written: {reason}") from error


def _refusal(error: BaseException | None) -> str | None:
    """The system's words for what it refused, where that is behind the error."""
    while error is not None and (isinstance(error, _RefusedError) or not isinstance(error, InputError)):
        in_words = re.search(r"\(os error (\d+)\)", str(error))  # safetensors'
        number = int(in_words[1]) if in_words else getattr(error, "errno", None)
        if number in REFUSALS:
            return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def content_sha256(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 of a JSON-able header and of the names, types, shapes and bytes of tensors, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).data)  # no copy: tensors may be mapped from files larger than memory
    return digest.hexdigest()


def save_tensors(path: Path, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file that says what kind of thing it holds; equal content gives equal bytes."""
    metadata = {"kind": kind, "header": header, "sha256": content_sha256(header, tensors)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as beside:
        save_file(contiguous, beside, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def load_tensors(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the (memory-mapped) tensors that `save_tensors` wrote to `path` as `kind`.

    Raises InputError, naming the file, where it is missing, not safetensors, of another kind, or not what was written.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = json.loads((stored.metadata() or {}).get(_METADATA_KEY, "{}"))
            found = metadata.get("kind", "foreign")
            if found != kind:
                raise InputError(f"{path} holds {found!r}, not {kind!r}: {ANEW}")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: run the pipeline that makes it first") from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is no {kind} file, it is damaged or no safetensors file: {ANEW}") from error
    if content_sha256(metadata.get("header", {}), tensors) != metadata.get("sha256"):
        raise InputError(f"{path} is damaged, its content does not have the sha256 that it states: {ANEW}")
    return metadata["header"], tensors


def stored_kind(path: Path) -> str | None:
    """The kind that `save_tensors` wrote; None where the file is no such one, which `load_tensors` will say."""
    try:
        with safe_open(path, framework="pt") as stored:
            kind: str = json.loads(stored.metadata()[_METADATA_KEY])["kind"]
            return kind
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None


def sha256_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
