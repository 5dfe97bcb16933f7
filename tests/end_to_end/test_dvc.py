"""dvc.yaml: made from the pipelines, and reproducing no more than what changed."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from duodiff_pipeline.dvc_stages import make_stages
from duodiff_pipeline.images.digits import read_digits

from .conftest import MACHINE_DEPENDENT, PROJECT, Project, copy_project, results


def test_the_committed_file_is_what_is_made_from_pipelines_and_catalog() -> None:
    assert yaml.safe_load((PROJECT / "dvc.yaml").read_text()) == make_stages(PROJECT)


def test_every_parameter_file_and_key_in_it_exists() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for path, keys in [item for entry in stage["params"] for item in entry.items()]:
            parameters = yaml.safe_load((PROJECT / path).read_text())
            for key in keys or []:
                found = parameters
                for part in key.split("."):
                    found = found[part]


RAW = "data/01_raw/own"


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose base configuration is the small one on files of its own, run once and committed to DVC."""
    project = copy_project(tmp_path_factory.mktemp("dvc"))
    base, small = ((project.root / "conf" / env / "parameters.yml") for env in ("base", "test"))
    own = {"data_preparation": {"source": "idx", "folder": RAW}}
    base.write_text(
        yaml.safe_dump(_merged(_merged(yaml.safe_load(base.read_text()), yaml.safe_load(small.read_text())), own))
    )
    _write_idx(project.root / RAW)
    for command in (
        ("git", "init", "-q"),
        ("dvc", "init", "-q"),
        ("python", "-m", "duodiff_pipeline.dvc_stages"),
        ("kedro", "run", "--env", "base"),
        ("dvc", "commit", "-f"),
        ("git", "add", "conf", "dvc.yaml", "dvc.lock"),
        ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "reproduced"),
    ):
        result = project.run(*command)
        assert result.returncode == 0, result.stdout + result.stderr
    return project


def _write_idx(folder: Path) -> None:
    """The digits as the four files of an MNIST-like set."""
    folder.mkdir(parents=True)
    images, labels = read_digits()
    for prefix, part in (("train", slice(600)), ("t10k", slice(600, 900))):
        for name, values in (("images-idx3", images[part, 0]), ("labels-idx1", labels[part].to(torch.uint8))):
            header = bytes([0, 0, 8, values.dim()]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{prefix}-{name}-ubyte").write_bytes(header + values.numpy().tobytes())


def test_what_was_pushed_is_pulled_back(reproduced: Project, tmp_path: Path) -> None:
    before = results(reproduced)
    assert reproduced.run("dvc", "remote", "add", "-f", "-d", "store", str(tmp_path / "store")).returncode == 0
    assert reproduced.run("dvc", "push").returncode == 0
    elsewhere = ("metrics.json", ".gitignore")  # with git
    tracked = {name for name in before if not name.startswith("01_raw") and not name.endswith(elsewhere)}
    shutil.rmtree(reproduced.root / ".dvc" / "cache")
    for name in tracked:
        (reproduced.root / "data" / name).unlink()
    result = reproduced.run("dvc", "pull")
    assert result.returncode == 0, result.stderr
    assert results(reproduced) == before
    assert "up to date" in reproduced.run("dvc", "status").stdout


def test_a_changed_input_shows(reproduced: Project) -> None:
    path = reproduced.root / RAW / "train-images-idx3-ubyte"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    status = reproduced.run("dvc", "status").stdout
    path.write_bytes(before)
    stages = re.findall(r"^(\w+):$", status, re.MULTILINE)
    assert stages == ["data_preparation"]
    assert re.search(rf"modified:\s+{RAW}", status)
    assert "up to date" in reproduced.run("dvc", "status").stdout


def test_a_changed_search_parameter_executes_exactly_what_depends_on_it(reproduced: Project) -> None:
    path = reproduced.root / "conf" / "base" / "parameters.yml"
    parameters = yaml.safe_load(path.read_text())
    parameters["switch_search"]["n_trials"] += 1
    path.write_text(yaml.safe_dump(parameters))

    difference = reproduced.run("dvc", "params", "diff")
    assert "switch_search.n_trials" in difference.stdout
    result = reproduced.kedro("repro")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.findall(r"Running stage '(\w+)'", result.stdout) == ["switch_search", "evaluation", "reporting"]
    assert "plans.deep_dpmsolverpp_4.fid" in reproduced.run("dvc", "metrics", "show", "--md").stdout


@pytest.mark.slow
def test_a_fresh_clone_reproduces_the_committed_digits_run(tmp_path: Path) -> None:
    """On another machine, or with other threads, the last digits of the numbers may differ."""
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(tmp_path / "clone")], check=True)
    clone = Project(tmp_path / "clone")
    result = clone.kedro("repro")
    assert result.returncode == 0, result.stdout + result.stderr
    assert clone.run("git", "diff", "--name-only").stdout.split() == ["dvc.lock"]  # that of files with seconds
    made, committed = (yaml.safe_load((root / "dvc.lock").read_text())["stages"] for root in (clone.root, PROJECT))
    for name, stage in committed.items():
        for out, now in zip(stage["outs"], made[name]["outs"], strict=True):
            if not out["path"].endswith((*MACHINE_DEPENDENT, "figures")):
                assert now == out


def _merged(base: dict, over: dict) -> dict:
    both = {key: _merged(base.get(key) or {}, over[key]) if isinstance(over[key], dict) else over[key] for key in over}
    return {**base, **both}
