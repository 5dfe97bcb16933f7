"""The whole experiment on latents of a dataset in a parquet file, from the command line."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from latent_examples import tiny_autoencoder
from PIL import Image

from duodiff_pipeline.files import load_tensors
from duodiff_pipeline.images.latents import LatentPack
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.files import StoredNetwork

from .conftest import PROJECT, Project, copy_project

pytestmark = pytest.mark.slow


def write_dataset(path: Path, images: int, side: int) -> None:
    """Discs on grounds, whose class is which of them is brighter."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    rows = []
    for i in range(images):
        disc = ((x - rng.uniform(0, side)) ** 2 + (y - rng.uniform(0, side)) ** 2 < (side / 3) ** 2)[..., None]
        dark, bright = rng.integers(0, 100, 3), rng.integers(150, 256, 3)
        pixels = np.where(disc, bright if i % 2 else dark, dark if i % 2 else bright).astype(np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG")
        rows.append({"image": {"bytes": encoded.getvalue(), "path": None}, "label": i % 2})
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("latents"))
    write_dataset(project.root / "discs.parquet", 144, 16)
    tiny_autoencoder().save_pretrained(project.root / "vae")
    parameters = yaml.safe_load((PROJECT / "conf" / "test" / "parameters.yml").read_text())
    hub = {"dataset": "discs.parquet"}
    autoencoder = {"path": "vae", "batch_images": 8}
    parameters["data_preparation"] = {"source": "hub", "hub": hub, "image_size": 16, "autoencoder": autoencoder}
    parameters["timestep_clustering"] |= {"data_range": "latent", "images": 50}
    parameters["training"] |= {"flip": True}
    for backbone in parameters["backbones"].values():
        backbone["patch"] = 2
    (project.root / "conf" / "latents").mkdir()
    for name, content in (
        ("globals.yml", {"experiment": "latents", "duration": "seconds"}),
        ("parameters.yml", parameters),
    ):
        (project.root / "conf" / "latents" / name).write_text(yaml.safe_dump(content))
    result = project.kedro("run", "--env", "latents")
    assert result.returncode == 0, result.stderr
    return project


def test_networks_learn_latents_and_metrics_see_images(ran: Project) -> None:
    packs, models = ran.data("03_primary", "latents"), ran.data("06_models", "latents")
    train, latents = ImagePack.load(packs / "train.safetensors"), LatentPack.load(packs / "train_latents.safetensors")
    assert (train.shape_chw, latents.shape_chw, latents.image_chw) == ((3, 16, 16), (4, 4, 4), (3, 16, 16))
    assert latents.images_sha256 == train.sha256
    for name in ("deep", "shallow", "early_exits", "ase", "unified_0"):
        header = StoredNetwork.load(models / f"{name}.safetensors").header
        assert header.data_sha256 == latents.sha256
        assert (header.architecture["channels"], header.architecture["image_size"]) == (4, 4)
    grids = load_tensors(ran.data("07_model_output", "latents") / "sample_grids.safetensors", "images")[1]
    assert {grid.shape[1:] for grid in grids.values()} == {(3, 16, 16)}


def test_the_report_counts_the_decoder_apart_and_names_the_autoencoder(ran: Project) -> None:
    record = json.loads((ran.data("03_primary", "latents") / "autoencoder.json").read_text())
    records = json.loads((ran.data("08_reporting", "latents") / "records.json").read_text())
    deep = next(r for r in records if r["denoiser"].startswith("deep") and r["name"] == "fid")
    network = StoredNetwork.load(ran.data("06_models", "latents") / "deep.safetensors").module
    assert deep["gmacs"] == pytest.approx(4 * network.macs / 1e9)
    page = (ran.data("08_reporting", "latents") / "report.html").read_text()
    assert record["sha256"] in page
    assert "Decoding an image takes" in page


def test_a_second_run_encodes_nothing_and_another_autoencoder_is_noticed(ran: Project) -> None:
    again = ran.kedro("run", "--env", "latents", "--pipelines", "data_preparation")
    assert again.returncode == 0, again.stderr
    tiny_autoencoder(scaling_factor=0.5).save_pretrained(ran.root / "vae")
    again = ran.kedro("run", "--env", "latents", "--pipelines", "data_preparation,loss_gap")
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].startswith("Error: ")
    assert "do not belong together, for their training latents differ" in again.stderr
