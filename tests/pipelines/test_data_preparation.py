"""A folder of image files to packs: reproducible, and decoded once."""

import os

import numpy as np
import pytest
from PIL import Image

from duodiff_pipeline.config import DataPreparation
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.pipelines.data_preparation import nodes


@pytest.fixture
def settings(tmp_path) -> DataPreparation:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 12, 9, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        place = tmp_path / "photos" / ("cat" if i % 3 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    nothing = dict.fromkeys(("crop", "resize_filter", "mode", "labels"))
    own = {"source": "image_folder", "folder": str(tmp_path / "photos"), "image_size": 8}
    return DataPreparation(**nothing, **own, held_out_share=0.3, seed=0)


def test_classes_are_split_in_proportion(settings, tmp_path):
    train, held_out = nodes.prepare_images(settings, tmp_path / "work")
    assert (train.shape_chw, len(train), len(held_out)) == ((3, 8, 8), 21, 9)
    assert train.labels.bincount().tolist() == [14, 7]
    assert held_out.labels.bincount().tolist() == [6, 3]
    assert (train.source, train.split, held_out.split) == ("image_folder", "train", "held_out")
    assert train.transform.endswith("centre square, lanczos to 8x8; 2 classes by subfolder")


def test_every_image_is_in_one_pack_and_the_seed_says_in_which(settings, tmp_path):
    def packs(seed: int, work: str) -> tuple[list[bytes], list[bytes]]:
        both = nodes.prepare_images(settings.model_copy(update={"seed": seed}), tmp_path / work)
        return tuple([image.numpy().tobytes() for image in pack.images] for pack in both)

    first, again, other = packs(0, "a"), packs(0, "b"), packs(1, "a")
    assert first == again
    assert first != other
    assert sorted([*first[0], *first[1]]) == sorted([*other[0], *other[1]])
    assert len({*first[0], *first[1]}) == 30


def test_the_same_files_elsewhere_make_the_same_packs(settings, tmp_path):
    first = nodes.prepare_images(settings, tmp_path / "a")
    os.rename(tmp_path / "photos", tmp_path / "moved")
    moved = settings.model_copy(update={"folder": str(tmp_path / "moved")})
    again = nodes.prepare_images(moved, tmp_path / "b")
    assert [pack.sha256 for pack in again] == [pack.sha256 for pack in first]


def test_files_are_decoded_once_until_one_of_them_changes(settings, tmp_path, monkeypatch):
    decoded, read = [], nodes.read_images
    monkeypatch.setattr(nodes, "read_images", lambda paths, how: decoded.extend(paths) or read(paths, how))
    first = nodes.prepare_images(settings, tmp_path / "work")
    assert len(decoded) == 30
    again = nodes.prepare_images(settings, tmp_path / "work")
    assert len(decoded) == 30
    assert [pack.sha256 for pack in again] == [pack.sha256 for pack in first]
    Image.new("RGB", (8, 8), "red").save(tmp_path / "photos" / "cat" / "1.png")
    changed = nodes.prepare_images(settings, tmp_path / "work")
    assert len(decoded) == 60
    assert [pack.sha256 for pack in changed] != [pack.sha256 for pack in first]


def test_a_damaged_file_is_named_and_leaves_no_pack(settings, tmp_path):
    path = tmp_path / "photos" / "cat" / "28.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=f"^{path} cannot be read as an image"):
        nodes.prepare_images(settings, tmp_path / "work")
    packs = [file.name for file in (tmp_path / "work").rglob("*.safetensors*")]
    assert packs in ([], ["train.safetensors"])
