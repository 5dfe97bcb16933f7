"""A Hugging Face dataset to packs: from files here, decoded once, in little memory, and gone on with after a kill."""

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from duodiff_pipeline.config import DataPreparation
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.pipelines.data_preparation import hub
from duodiff_pipeline.pipelines.data_preparation.nodes import prepare_images

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
LABELS = [i % 3 for i in range(30)]


class Killed(BaseException): ...


def png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def write(path, chosen: range, column: str = "image", labels=LABELS) -> None:
    encoded = [{"bytes": png(IMAGES[i]), "path": None} for i in chosen]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: encoded, "label": [labels[i] for i in chosen]}), path, row_group_size=4)


def settings(dataset, **of_hub) -> DataPreparation:
    own = of_hub.pop("own", {})
    nothing = dict.fromkeys(("folder", "crop", "resize_filter", "mode", "labels"))
    fixed = {"source": "hub", "image_size": 8, "held_out_share": 0.3, "seed": 0, **nothing, **own}
    return DataPreparation(hub={"dataset": str(dataset), **of_hub}, **fixed)


def pixels(pack) -> list[bytes]:
    return [image.permute(1, 2, 0).numpy().tobytes() for image in pack.images]


def test_a_parquet_file_is_split_and_its_pixels_are_kept(tmp_path):
    write(tmp_path / "all.parquet", range(30))
    train, held_out = prepare_images(settings(tmp_path / "all.parquet"), tmp_path / "work")
    assert (train.shape_chw, len(train), len(held_out)) == ((3, 8, 8), 21, 9)
    assert train.labels.bincount().tolist() == [7, 7, 7]
    found = dict(
        zip([*pixels(train), *pixels(held_out)], [*train.labels.tolist(), *held_out.labels.tolist()], strict=True)
    )
    assert found == {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    assert (train.split, held_out.split) == ("train", "held_out")


def test_a_folder_brings_its_own_splits_in_its_own_order(tmp_path):
    write(tmp_path / "set" / "data" / "train-00000-of-00002.parquet", range(12), "img")
    write(tmp_path / "set" / "data" / "train-00001-of-00002.parquet", range(12, 20), "img")
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", range(20, 30), "img")
    of = settings(tmp_path / "set", held_out="test", image="img", label=None)
    train, held_out = prepare_images(of, tmp_path / "work")
    assert pixels(train) == [image.tobytes() for image in IMAGES[:20]]
    assert pixels(held_out) == [image.tobytes() for image in IMAGES[20:]]
    assert train.classes == 1
    both, _ = prepare_images(settings(tmp_path / "set", train="train+test", image="img"), tmp_path / "work")
    assert len(both) == 21


def test_the_pack_is_what_is_saved_and_loaded(tmp_path):
    write(tmp_path / "all.parquet", range(30))
    train, _ = prepare_images(settings(tmp_path / "all.parquet"), tmp_path / "work")
    train.save(tmp_path / "train.safetensors")
    again = type(train).load(tmp_path / "train.safetensors")
    assert again.sha256 == train.sha256
    assert torch.equal(again.images, train.images)


def test_a_folder_of_image_files_is_read_by_its_layout(tmp_path):
    for i, image in enumerate(IMAGES[:8]):
        place = tmp_path / "set" / ("train" if i < 4 else "test") / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    train, held_out = prepare_images(settings(tmp_path / "set", held_out="test"), tmp_path / "work")
    assert pixels(train) == [IMAGES[i].tobytes() for i in (0, 2, 1, 3)]  # class a, then b
    assert held_out.labels.tolist() == [0, 0, 1, 1]


def test_every_image_is_decoded_once_and_a_kill_is_gone_on_from(tmp_path, monkeypatch):
    write(tmp_path / "all.parquet", range(30))
    of, read, decoded = settings(tmp_path / "all.parquet"), hub.read_image, list[str]()
    monkeypatch.setattr(hub, "BATCH_IMAGES", 4)

    def until(most: int):
        def counted(file, decoding, name):
            if len(decoded) >= most:
                raise Killed
            decoded.append(name)
            return read(file, decoding, name)

        return counted

    whole = prepare_images(of, tmp_path / "elsewhere")
    for most in (10, 25):
        monkeypatch.setattr(hub, "read_image", until(most))
        with pytest.raises(Killed):
            prepare_images(of, tmp_path / "work")
    kept = sum(len(list(path.read_bytes())) // 192 for path in (tmp_path / "work").rglob("*.rows"))
    monkeypatch.setattr(hub, "read_image", until(1000))
    decoded.clear()
    again = prepare_images(of, tmp_path / "work")
    assert [pack.sha256 for pack in again] == [pack.sha256 for pack in whole]
    assert 0 < kept == 30 - len(decoded)
    decoded.clear()
    prepare_images(of, tmp_path / "work")
    assert not decoded


MEASURED = """
import re, sys, threading, time
from pathlib import Path
from duodiff_pipeline.config import DataPreparation
from duodiff_pipeline.pipelines.data_preparation import hub
from duodiff_pipeline.pipelines.data_preparation.nodes import prepare_images

def megabytes():  # of its own, what is mapped from files left out
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def peak_of(size):
    of = DataPreparation(source="hub", hub={"dataset": sys.argv[1], "label": None}, image_size=size, folder=None,
        crop=None, resize_filter=None, mode=None, labels=None, held_out_share=0.1, seed=0)
    found, ended = [], threading.Event()
    watch = threading.Thread(target=lambda: [found.append(megabytes()) for _ in iter(lambda: ended.wait(0.005), True)])
    watch.start()
    train, _ = prepare_images(of, Path(sys.argv[2], str(size)))
    train.save(Path(sys.argv[2], str(size), "train.safetensors"))
    ended.set()
    watch.join()
    return max(found), train.images.numel() / 2**20

hub.BATCH_IMAGES = 8
(small, _), (large, made) = peak_of(8), peak_of(512)
print(made, large - small)
"""


def test_memory_does_not_grow_with_the_images(tmp_path):
    """Of a pack of 86 MB, which would be held as a whole, and once more to be hashed, were it made in memory."""
    flat = [{"bytes": png(np.full((512, 512, 3), i, np.uint8)), "path": None} for i in range(128)]
    pq.write_table(pa.table({"image": flat}), tmp_path / "flat.parquet", row_group_size=8)
    arguments = [sys.executable, "-c", MEASURED, str(tmp_path / "flat.parquet"), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    made, grown = map(float, done.stdout.split())
    assert made > 80
    assert grown < 45  # 6 MB of a batch, encoded and decoded, and what the allocator keeps


@pytest.mark.parametrize(
    ("of_hub", "message"),
    [
        ({"image": "img"}, "has no column 'img', but image, label: set data_preparation.hub.image and label"),
        ({"image": "label", "label": None}, "column 'label' holds no images: set data_preparation.hub.image"),
        ({"label": "image"}, "30 of 30 labels of split train in column 'image' are no whole numbers from 0 on"),
        ({"held_out": "test"}, r"data_preparation.hub: Bad split: test. Available splits: \['train'\]"),
        ({"revision": "main"}, "data_preparation.hub.revision is for a dataset on the hub"),
        ({"own": {"image_size": 16}}, r"image \d+ \(8x8\) is smaller than image_size 16"),
    ],
)
def test_what_a_dataset_does_not_have_is_said_in_one_line(tmp_path, of_hub, message):
    write(tmp_path / "all.parquet", range(30))
    with pytest.raises(InputError, match=message) as refused:
        prepare_images(settings(tmp_path / "all.parquet", **of_hub), tmp_path / "work")
    assert "\n" not in str(refused.value)


def test_what_is_not_here_and_not_on_the_hub_is_said_with_the_ways_out(tmp_path, monkeypatch):
    import datasets

    with pytest.raises(InputError, match=r"hub.dataset: .*gone.parquet does not exist$"):
        prepare_images(settings(tmp_path / "gone.parquet"), tmp_path / "work")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty cannot be read as a dataset: The directory"):
        prepare_images(settings(tmp_path / "empty"), tmp_path / "work")

    def unreachable(*arguments, **options):
        raise ConnectionError("Couldn't reach 'some/set' on the Hub\n(LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    with pytest.raises(InputError, match=r"some/set cannot be had from .* hub .*, or name a parquet file"):
        prepare_images(settings("some/set"), tmp_path / "work")


def test_a_class_of_one_image_and_a_damaged_image_are_named(tmp_path):
    write(tmp_path / "one.parquet", range(30), labels=[3, *LABELS[1:]])
    with pytest.raises(InputError, match="class 3 has a single image"):
        prepare_images(settings(tmp_path / "one.parquet"), tmp_path / "work")
    damaged = [{"bytes": png(image)[: -60 * (i == 5) or None], "path": None} for i, image in enumerate(IMAGES)]
    pq.write_table(pa.table({"image": damaged}), tmp_path / "damaged.parquet")
    with pytest.raises(InputError, match=r"damaged.parquet, split train, image 5 cannot be read as an image"):
        prepare_images(settings(tmp_path / "damaged.parquet", label=None), tmp_path / "work")
