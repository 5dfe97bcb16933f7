"""The guide's command for the edges of CIFAR-10, on a stand-in of the same files."""

from pathlib import Path

import numpy as np

from duodiff_pipeline.images.cifar import FILES

from .conftest import copy_project


def test_edges_are_printed_and_evaluated_anew_for_nothing(tmp_path: Path) -> None:
    """Images that are smooth, so that optimal denoisers differ between the ends as they do for photographs."""
    project, rng = copy_project(tmp_path / "project"), np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*FILES["train"], *FILES["held_out"]]:
        coarse = rng.integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
        pixels = coarse.repeat(8, axis=2).repeat(8, axis=3).reshape(20, -1)
        labels = rng.integers(0, 10, (20, 1), dtype=np.uint8)
        (folder / name).write_bytes(np.hstack([labels, pixels]).tobytes())
    params = f"data_preparation.folder={folder},timestep_clustering.draws=60"
    command = ("run", "--env", "cifar10_multistage", "--pipelines")
    result = project.kedro(*command, "data_preparation,optimal_denoiser", "--params", params)
    assert result.returncode == 0, result.stderr
    heading, columns, *rows = result.stdout.strip().splitlines()
    assert heading == "stages by optimal denoisers: 60 draws, linear noise, images in [0, 1]"
    assert columns.split() == ["eta", "alpha", "t1", "t2", "timesteps"]
    assert [row.split()[1] for row in rows] == ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9"]
    assert any(row.split()[-2].endswith(",") for row in rows)  # two edges

    images = project.data("03_primary", "cifar10_multistage") / "train.safetensors"
    images.unlink()  # all that is asked of them is kept
    again = ("--nodes", "summarise_edges", "--params", f"{params},timestep_clustering.alphas=[0.85]")
    result = project.kedro(*command, "optimal_denoiser", *again)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines() == [heading, columns, rows[7]]
