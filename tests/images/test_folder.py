"""Folders of image files: what is found, in which order, with which classes."""

import logging
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.folder import find_images


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg", ".PNG"):
            Image.new("RGB", (4, 4), (len(name), 0, 0)).save(path)
        else:
            path.write_text("?")
    return root


def found(root: Path, labels: str = "subfolders") -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_images(root, labels).paths]


def refused(root: Path, labels: str = "subfolders") -> str:
    with pytest.raises(InputError) as refusal:
        find_images(root, labels)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_first_level_subfolders_are_classes_by_sorted_name(tmp_path):
    put(tmp_path, "dog/2.png", "dog/deep/er/1.jpg", "cat/9.PNG", "cat/10.png", "empty/notes.txt")
    folder = find_images(tmp_path, "subfolders")
    assert found(tmp_path) == ["cat/10.png", "cat/9.PNG", "dog/2.png", "dog/deep/er/1.jpg"]
    assert folder.classes == ("cat", "dog")
    assert folder.labels.tolist() == [0, 0, 1, 1]


def test_without_subfolders_or_with_labels_none_there_are_no_classes(tmp_path):
    flat = find_images(put(tmp_path / "flat", "b.png", "a.png"), "subfolders")
    assert (flat.classes, flat.labels.tolist()) == ((), [0, 0])
    mixed = find_images(put(tmp_path / "mixed", "2019/1.png", "2020/1.png", "0.png"), "none")
    assert (mixed.classes, mixed.labels.tolist()) == ((), [0, 0, 0])


def test_order_does_not_depend_on_what_the_file_system_lists(tmp_path, monkeypatch):
    put(tmp_path, *(f"{place}/{i}.png" for place in ("a", "a-b", "c") for i in range(12)))
    expected, listed = found(tmp_path), os.scandir
    assert expected == sorted(expected)

    class Backwards:
        def __init__(self, place):
            with listed(place) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.entries)

    monkeypatch.setattr(os, "scandir", Backwards)
    assert found(tmp_path) == expected


def test_other_files_are_ignored_with_one_line_and_hidden_ones_without(tmp_path, caplog):
    put(tmp_path, "a.png", "b.png", "c.heic", "d.txt", "e.txt", "README", ".DS_Store", ".hidden/f.png", "._a.png")
    with caplog.at_level(logging.INFO):
        assert found(tmp_path) == ["a.png", "b.png"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 4 files are ignored, being no images by their suffix: 1 .heic, 2 .txt, 1 no suffix"
    ]


def test_sha256_is_of_names_and_content(tmp_path):
    first = find_images(put(tmp_path / "first", "x/a.png", "x/b.png", "notes.txt"), "none")
    again = find_images(shutil.copytree(tmp_path / "first", tmp_path / "again"), "none")
    assert again.sha256 == first.sha256
    (tmp_path / "again/notes.txt").write_text("another")
    assert find_images(tmp_path / "again", "none").sha256 == first.sha256
    (tmp_path / "again/x/a.png").rename(tmp_path / "again/x/c.png")
    assert find_images(tmp_path / "again", "none").sha256 != first.sha256
    (tmp_path / "again/x/c.png").rename(tmp_path / "again/x/a.png")
    with (tmp_path / "again/x/a.png").open("ab") as file:
        file.write(b"\0")
    assert find_images(tmp_path / "again", "none").sha256 != first.sha256


def test_links_are_followed_and_loops_refused(tmp_path):
    put(tmp_path / "elsewhere", "1.png", "2.png")
    root = put(tmp_path / "root", "a/1.png", "a/2.png")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert found(root) == ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    (root / "c").symlink_to(root)
    assert refused(root) == f"{root}/c is {root} once more, by a link: remove the link"


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    assert refused(tmp_path / "no") == f"{tmp_path}/no does not exist: data_preparation.folder"
    put(tmp_path, "file.txt", "sub/README")
    assert refused(tmp_path / "file.txt") == f"{tmp_path}/file.txt is no folder: data_preparation.folder"
    assert re.fullmatch(
        rf"{tmp_path} holds no image; read are .*\.jpg .*\.png .*\.webp, not 1 \.txt, 1 no suffix", refused(tmp_path)
    )


def test_images_beside_classes_are_refused_with_the_way_out(tmp_path):
    put(tmp_path, "cat/1.png", "cat/2.png", "stray.png")
    assert refused(tmp_path) == (
        f"{tmp_path}/stray.png lies beside subfolders, each of which is a class: move it into one, "
        "or set data_preparation.labels: none"
    )
    assert len(found(tmp_path, "none")) == 3


def test_a_class_of_one_image_is_refused_with_the_way_out(tmp_path):
    put(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
    assert refused(tmp_path) == (
        f"{tmp_path}/dog/1.png is the only image of its class, and the split needs 2: add or remove one, "
        "or set data_preparation.labels: none"
    )
