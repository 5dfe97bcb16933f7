import numpy as np
import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.cifar import FILES, read_cifar10_split


@pytest.fixture
def folder(tmp_path):
    """A stand-in with 4 images a file."""
    rng = np.random.default_rng(0)
    for name in [*FILES["train"], *FILES["held_out"]]:
        records = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (tmp_path / name).write_bytes(records.tobytes())
    return tmp_path


def test_records_are_a_label_and_planes_of_red_green_and_blue(folder):
    images, labels = read_cifar10_split(folder, "train")
    assert (tuple(images.shape), images.dtype, tuple(labels.shape), labels.dtype) == (
        (20, 3, 32, 32),
        torch.uint8,
        (20,),
        torch.int64,
    )
    raw = (folder / "data_batch_2.bin").read_bytes()  # images 4 to 7
    assert labels[5] == raw[3073]
    for channel, y, x in ((0, 0, 0), (0, 1, 2), (2, 31, 30)):
        assert images[5, channel, y, x] == raw[3073 + 1 + 1024 * channel + 32 * y + x]
    assert len(read_cifar10_split(folder, "held_out")[0]) == 4


def test_damaged_and_missing_files_are_named(folder):
    (folder / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(InputError, match=r"test_batch.bin holds no whole records of 3073 bytes"):
        read_cifar10_split(folder, "held_out")
    (folder / "data_batch_3.bin").write_bytes(bytes([200] * 3073))
    with pytest.raises(InputError, match="holds the label 200, but CIFAR-10 has 10 classes"):
        read_cifar10_split(folder, "train")
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_4.bin is missing: .* the six .bin files"):
        read_cifar10_split(folder, "train")
