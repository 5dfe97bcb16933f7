import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.files import content_sha256, load_tensors, save_tensors, sha256_of_json, whole_file
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.files import NetworkHeader, StoredNetwork
from duodiff_pipeline.networks.uvit import UViT, UViTConfig

HEADER = {"step": 3, "betas": (0.9, 0.999), "source": "digits"}
TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2], dtype=torch.uint8)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "thing.safetensors"


def assert_refused(path, *words: str) -> None:
    with pytest.raises(InputError) as refusal:
        load_tensors(path, "thing")
    message = str(refusal.value)
    assert "\n" not in message
    assert str(path) in message
    assert all(word in message for word in words)


def write_half(path: Path, error: type[BaseException]) -> None:
    before = path.read_text() if path.exists() else None
    with whole_file(path) as beside:
        beside.write_text("half")
        assert (path.read_text() if path.exists() else None) == before
        raise error


def test_a_writer_that_raises_leaves_nothing(tmp_path):
    path = tmp_path / "new" / "report.json"
    with pytest.raises(RuntimeError):
        write_half(path, RuntimeError)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_raises_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with whole_file(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def refuse_torch(path: Path) -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        raise RuntimeError("[enforce fail at inline_container.cc:672]")  # noqa: B904 (as torch does)


def refuse_safetensors(path: Path) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def refuse_nested(path: Path) -> None:
    with whole_file(path):
        raise OSError(errno.ENOSPC, "No space left on device")


def write_until_refused(path: Path, refuse: Callable[[Path], None]) -> None:
    with whole_file(path) as beside:
        beside.write_text("half")
        refuse(beside)


@pytest.mark.parametrize("refuse", [refuse_torch, refuse_safetensors, refuse_nested])
def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path, refuse):
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(InputError) as refusal:
        write_until_refused(path, refuse)
    assert str(refusal.value) == f"{path} cannot be written: No space left on device"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [InputError("wrong"), OSError(errno.ENOENT, "none"), KeyError("a")])
def test_what_is_no_refusal_stays_what_it_is(tmp_path, error):
    with pytest.raises(type(error)) as raised, whole_file(tmp_path / "report.json"):
        raise error
    assert raised.value is error


def test_round_trip_keeps_header_and_tensors(path):
    save_tensors(path, "thing", HEADER, TENSORS)
    header, tensors = load_tensors(path, "thing")
    assert header == {"step": 3, "betas": [0.9, 0.999], "source": "digits"}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype


def test_content_sha256_is_that_of_header_names_types_shapes_and_bytes():
    expected = hashlib.sha256(b'{"betas": [0.9, 0.999], "source": "digits", "step": 3}')
    expected.update(b"a |u1 (2,)" + bytes([1, 2]))
    expected.update(b"b <f4 (2, 3)" + torch.arange(6.0).numpy().tobytes())
    assert content_sha256(HEADER, TENSORS) == expected.hexdigest()
    assert content_sha256(dict(reversed(HEADER.items())), dict(reversed(TENSORS.items()))) == expected.hexdigest()


def test_content_sha256_sees_every_part():
    b = TENSORS["b"]
    variants = [
        content_sha256(HEADER, TENSORS),
        content_sha256({**HEADER, "step": 4}, TENSORS),
        content_sha256(HEADER, {**TENSORS, "b": b + 1}),
        content_sha256(HEADER, {**TENSORS, "b": b.view(3, 2)}),
        content_sha256(HEADER, {**TENSORS, "b": b.view(torch.int32)}),
        content_sha256(HEADER, {"a": TENSORS["a"], "c": b}),
    ]
    assert len(set(variants)) == len(variants)


def test_a_bit_flipped_anywhere_is_refused(path):
    save_tensors(path, "thing", HEADER, TENSORS)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 7
        path.write_bytes(damaged)
        assert_refused(path)


def test_a_file_cut_short_anywhere_is_refused(path):
    save_tensors(path, "thing", HEADER, TENSORS)
    content = path.read_bytes()
    for kept in range(len(content)):
        path.write_bytes(content[:kept])
        assert_refused(path, "damaged")


def test_a_missing_file_is_named_with_the_way_out(path):
    assert_refused(path, "does not exist: run the pipeline that makes it first")


def test_a_folder_is_no_file(tmp_path):
    assert_refused(tmp_path, "no thing file")


def test_a_text_is_no_tensor_file(path):
    path.parent.mkdir()
    path.write_text("hello, world\n" * 9)
    assert_refused(path, "damaged or no safetensors file")


def test_another_kind_is_named(path):
    save_tensors(path, "other", HEADER, TENSORS)
    assert_refused(path, "holds 'other', not 'thing'")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"duodiff_pipeline": '{"kind": "thing"}'}])
def test_safetensors_of_somebody_else_are_refused(path, metadata):
    path.parent.mkdir()
    save_file(TENSORS, path, metadata)
    assert_refused(path)


def test_a_failed_save_leaves_what_was_there(path):
    save_tensors(path, "thing", HEADER, TENSORS)
    with pytest.raises(TypeError):
        save_tensors(path, "thing", {"not": object()}, TENSORS)
    assert load_tensors(path, "thing")[0]["step"] == 3
    assert list(path.parent.iterdir()) == [path]


def save_network_and_pack(folder: Path) -> None:
    network = UViT(UViTConfig(image_size=8, channels=1, patch=4, width=16, depth=3, heads=2))
    network.init_weights(torch.Generator().manual_seed(0))
    header = NetworkHeader("uvit", asdict(network.config), (0, 1000), {"b": 1, "a": (0.9, 0.999)}, 5, "ema", "ab" * 32)
    StoredNetwork(network, header).save(folder / "network.safetensors")
    images = torch.arange(256).view(4, 1, 8, 8).to(torch.uint8)
    ImagePack(images, torch.arange(4), "digits", "train", "none").save(folder / "pack.safetensors")


def test_equal_content_gives_equal_bytes_in_every_process(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    save_network_and_pack(here)
    script = f"from pathlib import Path; from test_files import *; save_network_and_pack(Path({str(there)!r}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    for name in ("network.safetensors", "pack.safetensors"):
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_sha256_of_json_does_not_depend_on_the_order_of_keys():
    expected = hashlib.sha256(b'{"a": [1, 2], "b": null}').hexdigest()
    assert sha256_of_json({"b": None, "a": (1, 2)}) == expected
    assert sha256_of_json(json.loads('{"a": [1, 2], "b": null}')) == expected
