"""The whole experiment with plain stacks alone, and early exits as AdaDiff's authors have them."""

import json
import shutil

import pandas as pd
import pytest

from duodiff_pipeline.networks.files import StoredNetwork

from .conftest import Project


@pytest.fixture(scope="module")
def plain(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("plain") / "project")
    shutil.copytree(finished.root, project.root)
    kinds = ",".join(f"backbones.{name}.kind=dit" for name in ("deep", "middle", "shallow", "early"))
    exits = "early_exit.variant=authors,early_exit.probe=attention"
    result = project.kedro("run", "--env", "test", "--params", f"{kinds},{exits}")
    assert result.returncode == 0, result.stderr
    return project


def test_early_exits_belong_to_a_plain_stack_too(plain: Project) -> None:
    stored = {name: StoredNetwork.load(plain.data("06_models") / f"{name}.safetensors") for name in ("deep", "ase")}
    exits = StoredNetwork.load(plain.data("06_models") / "early_exits.safetensors")
    assert {network.header.kind for network in stored.values()} == {"dit"}
    assert exits.header.kind == "shared_exits_attention_of_dit"
    assert exits.header.backbone_sha256 == stored["deep"].sha256
    depths = pd.read_parquet(plain.data("07_model_output") / "exit_table.parquet")["exit_depth"]
    assert depths.between(1, 5).all()


def test_all_of_them_are_evaluated(plain: Project) -> None:
    records = json.loads((plain.data("08_reporting") / "records.json").read_text())
    measured = {record["denoiser"].split()[0] for record in records if record["name"] == "fid"}
    assert {"deep", "shallow", "adadiff", "ase"} <= measured
