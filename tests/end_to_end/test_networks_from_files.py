"""Stitching without training: two network files of the same images become a DuoDiff by configuration alone."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from .conftest import Project

NAMES = ("shallow", "deep")


@pytest.fixture(scope="module")
def stitched(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished project whose shallow and deep network are taken from files elsewhere."""
    project = Project(tmp_path_factory.mktemp("stitched") / "project")
    shutil.copytree(finished.root, project.root)
    for name in NAMES:
        shutil.move(project.data("06_models") / f"{name}.safetensors", project.root / f"{name}_of_theirs.safetensors")
    shutil.rmtree(project.root / "data" / ".work")
    files = ",".join(f"backbones.{name}.file={name}_of_theirs.safetensors" for name in NAMES)
    result = project.kedro("run", "--env", "test", "--params", files)
    assert result.returncode == 0, result.stderr
    (project.root / "stderr.txt").write_text(result.stderr)
    return project


def test_networks_from_files_are_not_trained(stitched: Project) -> None:
    told = (stitched.root / "stderr.txt").read_text()
    assert "take backbone: deep" in told
    assert "train backbone: deep" not in told
    assert "train backbone: middle" in told
    for name in NAMES:
        curve = json.loads((stitched.data("06_models") / f"{name}_training_curve.json").read_text())
        assert curve["losses"] == []
        assert curve["training_gmacs"] > 0
        seconds = json.loads((stitched.data("06_models") / f"{name}_training_seconds.json").read_text())
        assert seconds == {"seconds": None}


def test_they_measure_as_the_same_networks_trained_here(stitched: Project, finished: Project) -> None:
    for layer, table in (("08_reporting", "switch_curves.parquet"), ("07_model_output", "seed_blocks.parquet")):
        there, here = (pd.read_parquet(p.data(layer) / table) for p in (stitched, finished))
        pd.testing.assert_frame_equal(there, here)
    records = [(p.data("08_reporting") / "records.json").read_bytes() for p in (stitched, finished)]
    assert records[0] == records[1]


def test_the_report_says_where_they_come_from_and_how_they_are_taken_again(stitched: Project) -> None:
    answer = Path(stitched.data("08_reporting") / "answer.md").read_text()
    assert "--nodes deep.take" in answer
    assert "--nodes middle.train" in answer
