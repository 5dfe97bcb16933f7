"""What is known of images and latents before a run, and what is said to be missing."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from latent_examples import tiny_autoencoder
from PIL import Image
from planned_examples import nothing, parameters

from duodiff_pipeline.planning.images import UNKNOWN, known_images


@pytest.fixture(autouse=True)
def without_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cache of whoever runs the tests."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))


@pytest.mark.parametrize(
    ("env", "counts", "classes"),
    [
        ("cifar10", (50_000, 10_000), 10),
        ("celeba64", (162_770, 19_962), 1),
        ("imagenet64", (1_281_167, 50_000), 1000),
    ],
)
def test_a_dataset_on_the_hub_is_named_and_taken_for_what_its_card_says(env, counts, classes, tmp_path) -> None:
    p = parameters(env)
    known = known_images(p.data_preparation, tmp_path, nothing)
    assert (known.n_train, known.n_held_out) == counts
    assert known.train.classes == classes
    (missing,) = known.missing
    assert p.data_preparation.hub.dataset in missing
    assert "Hugging Face hub" in missing
    assert "parquet" in missing  # the way out without a network
    assert any("card" in assumed for assumed in known.assumed)
    assert not any(tmp_path.iterdir())


def test_a_dataset_here_is_counted_without_its_images(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    broken = {"bytes": b"no image at all", "path": None}
    for split, count in (("train", 12), ("test", 5)):
        rows = [{"img": broken, "label": i % 3} for i in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    hub = {"dataset": str(folder), "train": "train", "held_out": "test", "image": "img", "label": "label"}
    known = known_images(parameters("cifar10", data_preparation={"hub": hub}).data_preparation, tmp_path, nothing)
    assert (known.n_train, known.n_held_out, known.train.classes) == (12, 5, 3)
    assert known.train.shape_chw == (3, 32, 32)
    assert known.missing == ()


def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    hub = {"dataset": "/nowhere/set.parquet", "held_out": None, "image": "img", "label": None}
    known = known_images(parameters("cifar10", data_preparation={"hub": hub}).data_preparation, tmp_path, nothing)
    assert known.missing == ("data_preparation.hub.dataset: /nowhere/set.parquet does not exist",)
    assert (known.n_train, known.n_held_out) == (None, None)


def test_latents_have_the_shape_of_their_autoencoder(tmp_path: Path) -> None:
    assumed = known_images(parameters("imagenet256").data_preparation, tmp_path, nothing)
    assert (assumed.train.shape_chw, assumed.examples.shape_chw) == ((3, 256, 256), (4, 32, 32))
    assert assumed.examples.image_chw == (3, 256, 256)
    assert any("CompVis/stable-diffusion-v1-4" in missing and "diffusers" in missing for missing in assumed.missing)

    tiny_autoencoder().save_pretrained(tmp_path / "vae")
    autoencoder = {"path": str(tmp_path / "vae")}
    p = parameters("imagenet256", data_preparation={"autoencoder": autoencoder})
    known = known_images(p.data_preparation, tmp_path, nothing)
    assert known.examples.shape_chw == (4, 64, 64)  # 4 pixels a latent
    assert not any("autoencoder" in missing for missing in known.missing)

    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    known = known_images(p.data_preparation, tmp_path, nothing)
    assert f"data_preparation.autoencoder.path: {tmp_path / 'vae'} is not here" in known.missing


def test_random_examples_are_like_those_they_stand_for(tmp_path: Path) -> None:
    known = known_images(parameters("imagenet256").data_preparation, tmp_path, nothing)
    for pack in (known.train, known.examples):
        drawn = pack.random(3)
        x0 = drawn.x0(torch.arange(3), np.random.default_rng(0), torch.tensor([True, False, True]))
        assert x0.shape == (3, *pack.shape_chw)
        assert drawn.labels.tolist() == [999] * 3


def test_a_folder_of_images_is_counted(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for i in range(6):
            buffer = io.BytesIO()
            Image.new("RGB", (9, 9), (20 * i, 0, 0)).save(buffer, "PNG")
            (tmp_path / name / f"{i}.png").write_bytes(buffer.getvalue())
    source = {"source": "image_folder", "folder": str(tmp_path), "image_size": 8}
    known = known_images(parameters("test", data_preparation=source).data_preparation, tmp_path, nothing)
    assert (known.n_train, known.n_held_out, known.train.classes) == (8, 4, 2)
    assert known.train.sha256 == UNKNOWN
