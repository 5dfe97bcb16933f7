"""IDX files written by the tests, in the MNIST family's format."""

import gzip
import struct

import numpy as np
import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.idx import read_idx, read_idx_split

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 5), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def idx_bytes(array: np.ndarray, magic: bytes | None = None) -> bytes:
    header = magic or bytes([0, 0, 8, array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture(params=["", ".gz"], ids=["plain", "gzipped"])
def folder(request, tmp_path):
    for prefix, shift in (("train", 0), ("t10k", 1)):
        write(tmp_path / f"{prefix}-images-idx3-ubyte{request.param}", idx_bytes(IMAGES + shift))
        write(tmp_path / f"{prefix}-labels-idx1-ubyte{request.param}", idx_bytes(LABELS + shift))
    return tmp_path


@pytest.mark.parametrize(("split", "shift"), [("train", 0), ("held_out", 1)])
def test_reads_images_and_labels_of_a_split(folder, split, shift):
    images, labels = read_idx_split(folder, split)
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(images.numpy(), (IMAGES + shift)[:, None])
    assert labels.tolist() == (LABELS + shift).tolist()


def test_some_files_may_be_gzipped_and_some_not(folder):
    for path in sorted(folder.iterdir())[:2]:
        content = path.read_bytes()
        path.unlink()
        if path.suffix == ".gz":
            path.with_suffix("").write_bytes(gzip.decompress(content))
        else:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    assert np.array_equal(read_idx_split(folder, "held_out")[0].numpy(), (IMAGES + 1)[:, None])
    assert np.array_equal(read_idx_split(folder, "train")[0].numpy(), IMAGES[:, None])


def test_a_missing_file_is_named_with_the_way_out(folder):
    (missing,) = folder.glob("t10k-labels*")
    missing.unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte.*is missing.*folder must hold the four"):
        read_idx_split(folder, "held_out")
    assert len(read_idx_split(folder, "train")[0]) == 7


def assert_refused(path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refusal:
        read_idx(path, 3)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path, content = tmp_path / "train-images-idx3-ubyte", idx_bytes(IMAGES)
    for kept in range(len(content)):
        path.write_bytes(content[:kept])
        reason = (
            "not an IDX file"
            if kept < 4
            else "cut short"
            if kept < 16
            else f"announces 175 values but holds {kept - 16}"
        )
        assert_refused(path, reason)


def test_a_file_with_bytes_too_many_is_refused(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes(IMAGES) + b"\0")
    assert_refused(path, "announces 175 values but holds 176")


@pytest.mark.parametrize("magic", [b"\0\0\x08\x01", b"\0\0\x0d\x03", b"\x89PNG", b"\x1f\x8b\x08\x00"])
def test_a_file_of_another_format_is_refused(tmp_path, magic):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes(IMAGES, magic))
    assert_refused(path, "not an IDX file of unsigned bytes in 3 dimensions")


def test_a_gz_file_that_is_not_gzipped_is_refused(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(idx_bytes(IMAGES))
    assert_refused(path, "cannot be read as gzip")


@pytest.mark.parametrize("kept", [1, 15, 60, -8, -1])
def test_a_gzip_file_cut_short_is_refused(tmp_path, kept):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES))[:kept])
    assert_refused(path, "cannot be read as gzip")


def test_a_gzip_file_with_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(gzip.compress(idx_bytes(IMAGES)))
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert_refused(path, "cannot be read as gzip")
