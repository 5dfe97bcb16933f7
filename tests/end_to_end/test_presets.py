"""The papers' presets: their networks at full size, and the command line on a parquet file at 2 training steps."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from kedro.config import OmegaConfigLoader
from latent_examples import tiny_autoencoder
from PIL import Image

from duodiff_pipeline.config import Parameters, validate
from duodiff_pipeline.networks.uvit import UViT
from duodiff_pipeline.settings import CONFIG_LOADER_ARGS

from .conftest import PROJECT, copy_project

# what the networks see, and of the deep and the shallow one parameters, as official checkpoints have them, and GMACs
PRESETS = {
    "cifar10": ((3, 32), 10, (44_255_328, 12.201), (10_122_848, 2.766)),
    "celeba64": ((3, 64), 1, (44_292_228, 12.211), (10_159_748, 2.776)),
    "imagenet64": ((3, 64), 1000, (130_940_292, 35.236), (23_479_428, 6.109)),
    "imagenet256": ((4, 32), 1000, (286_763_172, 76.456), (41_202_852, 10.698)),
}


def parameters(preset: str) -> Parameters:
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env=preset, **CONFIG_LOADER_ARGS)
    return validate(loader["parameters"])


def network(preset: str, name: str) -> UViT:
    found = parameters(preset)
    (channels, size), classes, *_ = PRESETS[preset]
    of_labels = found.training.conditioning(classes)
    return UViT(found.backbones[name].architecture(size, channels, predicts=found.training.predicts, **of_labels))


@pytest.mark.parametrize("preset", PRESETS)
def test_networks_have_the_published_size_and_cost(preset: str) -> None:
    for name, (count, gmacs) in zip(("deep", "shallow"), PRESETS[preset][2:], strict=True):
        with torch.device("meta"):
            found = network(preset, name)
        assert sum(parameter.numel() for parameter in found.parameters()) == count
        assert found.macs / 1e9 == pytest.approx(gmacs, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["imagenet64", "imagenet256"])
def test_full_networks_run_forward(preset: str) -> None:
    (channels, size), classes, *_ = PRESETS[preset]
    x = torch.randn(1, channels, size, size)
    for name in ("deep", "shallow"):
        with torch.inference_mode():
            eps = network(preset, name)(x, torch.tensor([500]), torch.tensor([classes - 1]))
        assert eps.shape == x.shape
        assert eps.isfinite().all()


def write_splits(folder: Path, columns: dict[str, str | None], sizes: dict[str, int], shape: tuple[int, int]) -> None:
    """Blurred noise in two classes, one brighter than the other."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for split, images in sizes.items():
        rows = []
        for i in range(images):
            coarse = Image.fromarray(rng.integers(90 * (i % 2), 166 + 90 * (i % 2), (6, 5, 3), dtype=np.uint8))
            encoded = io.BytesIO()
            coarse.resize(shape, Image.Resampling.BICUBIC).save(encoded, "PNG")
            row = {columns["image"]: {"bytes": encoded.getvalue(), "path": None}}
            rows.append(row | ({columns["label"]: i % 2} if columns["label"] else {}))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")


def merged(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: merged(tree[key], changes[key]) for key in changes if isinstance(changes[key], dict) and tree.get(key)}
    return {**tree, **changes, **both}


SMALL = {
    "hardware": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
    "sampling": {"micro_batch_images": 4},
    "data_preparation": {"hub": {"dataset": "dataset"}},
    "metric_reference": {
        "extractor": None,
        "features": 8,
        "width": 4,
        "steps": 4,
        "batch_images": 8,
        "floor_repeats": 2,
    },
    "training": {"batch_images": 2, "warmup_steps": 1},
    "backbones": {name: {"steps": 2} for name in ("deep", "middle", "shallow")},
    "early_exit": {"steps": 2},
    "exit_statistics": {"solver": {"steps": 2}, "images": 8, "thresholds": [0.3]},
    "timestep_clustering": {
        **{"draws": 10, "nodes": 4, "node_draws": 2, "images": 8, "gradient_nodes": 4, "gradient_images": 1}
    },
    "loss_gap": {"images": 8},
    "switch_search": {"n_trials": 2, "budgets": [], "images": 4, "solvers": ["ddim"], "steps": [2]},
    "switch_curves": {"solver": "ddim", "steps": [2], "controls": 0},
    "evaluation": {
        **{"images": 4, "more_metrics": [], "timed_batches": [1], "solver": {"name": "ddim", "steps": 2}},
        **{"schedules": 1, "exit_thresholds": [], "grid_images": 4},
    },
}
NARROW = {name: {"width": 32, "heads": 2} for name in ("deep", "middle", "shallow")}
OWN = {
    "cifar10": ({"train": 24, "test": 12}, (32, 32), {}),
    "celeba64": (
        {"train": 24, "valid": 4, "test": 12},
        (178, 218),
        {"ase": {"steps": 2, "solvers": [{"name": "ddim", "steps": 2}], "candidates": 0}},
    ),
    "imagenet64": ({"train": 24, "validation": 12}, (90, 70), {"backbones": NARROW}),
    "imagenet256": (
        {"train": 24, "validation": 12},
        (300, 260),
        {
            "backbones": NARROW,
            "data_preparation": {"autoencoder": {"path": ".", "subfolder": "vae", "batch_images": 4}},
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs_offline_on_a_small_dataset(preset: str, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    sizes, shape, own = OWN[preset]
    changed = project.root / "conf" / preset / "parameters.yml"
    tree = merged(merged(yaml.safe_load(changed.read_text()), SMALL), own)
    changed.write_text(yaml.safe_dump(tree))
    hub = parameters(preset).data_preparation.hub
    assert hub is not None
    write_splits(project.root / "dataset", {"image": hub.image, "label": hub.label}, sizes, shape)
    tiny_autoencoder(
        **{"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4},
        block_out_channels=[4, 4, 4, 4],
    ).save_pretrained(project.root / "vae")
    result = project.run("kedro", "run", "--env", preset, HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert (project.data("08_reporting", preset) / "report.html").is_file()
