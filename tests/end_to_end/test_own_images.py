"""The whole experiment on a user's own photographs, as the README shows it: no classes, colour, two kinds of files."""

import json
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from PIL import Image

from duodiff_pipeline.files import load_tensors
from duodiff_pipeline.images.pack import ImagePack

from .conftest import PROJECT, Project, copy_project

TILE = 64


def cut_photographs(folder: Path) -> None:
    """scikit-learn's two photographs in tiles, as PNG and as JPEG files."""
    folder.mkdir(parents=True)
    for name, suffix in (("china", ".png"), ("flower", ".jpg")):
        photograph = Image.open(BytesIO(files("sklearn.datasets.images").joinpath(f"{name}.jpg").read_bytes()))
        for top in range(0, photograph.height - TILE + 1, TILE // 2):
            for left in range(0, photograph.width - TILE + 1, TILE // 2):
                tile = photograph.crop((left, top, left + TILE, top + TILE))
                tile.save(folder / f"{name}_{top}_{left}{suffix}")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the environment `mine`: the three keys of the README, the rest as small as in the tests."""
    project = copy_project(tmp_path_factory.mktemp("mine"))
    cut_photographs(project.root / "photographs")
    small = yaml.safe_load((PROJECT / "conf" / "test" / "parameters.yml").read_text())
    three = {"source": "image_folder", "folder": "photographs", "image_size": 16}
    (project.root / "conf" / "mine").mkdir()
    for name, content in (
        ("globals.yml", {"experiment": "mine", "duration": "seconds"}),
        ("parameters.yml", {**small, "data_preparation": three}),
    ):
        (project.root / "conf" / "mine" / name).write_text(yaml.safe_dump(content))
    result = project.kedro("run", "--env", "mine")
    assert result.returncode == 0, result.stderr
    (project.root / "stderr.txt").write_text(result.stderr)
    return project


def test_packs_are_colour_of_the_size_asked_for_without_classes(mine: Project) -> None:
    train, held_out = (
        ImagePack.load(mine.data("03_primary", "mine") / f"{s}.safetensors") for s in ("train", "held_out")
    )
    assert (len(train), len(held_out)) == (304, 152)
    assert train.shape_chw == held_out.shape_chw == (3, 16, 16)
    assert train.classes == 1
    assert "lanczos to 16x16; no classes" in train.transform


def test_features_are_learnt_from_quarter_turns(mine: Project) -> None:
    extractor = json.loads((mine.data("04_feature", "mine") / "extractor_accuracy.json").read_text())
    assert (extractor["learns"], extractor["name"]) == ("quarter_turns", "turn_classifier_3x16x16_8")
    assert "the images have no classes" in (mine.root / "stderr.txt").read_text()


def test_every_plan_is_recorded_and_drawn_in_colour(mine: Project) -> None:
    records = json.loads((mine.data("08_reporting", "mine") / "records.json").read_text())
    assert {record["extractor"] for record in records} == {"turn_classifier_3x16x16_8", "pixels"}
    _, grids = load_tensors(mine.data("07_model_output", "mine") / "sample_grids.safetensors", "images")
    assert set(grids) == {record["denoiser"] for record in records}
    for images in grids.values():
        assert images.shape == (8, 3, 16, 16)
        assert not (images[:, :1] == images).all()


def test_the_report_says_where_images_and_features_come_from(mine: Project) -> None:
    report = (mine.data("08_reporting", "mine") / "report.html").read_text()
    assert "304 × 3 × 16 × 16, image_folder, transform: first frame, EXIF orientation applied" in report
    assert "of held-out images&#39; quarter turns (they have no classes) named rightly" in report
