"""Class-conditional digits with guidance from the command line, and a trained network out and in again."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.networks.official import import_diffusers

from .conftest import Project, copy_project

CONDITIONAL = "training.label_dropout=0.2,sampling.guidance.deep=2"


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("conditional"))
    result = project.kedro("run", "--env", "test", "--params", CONDITIONAL)
    assert result.returncode == 0, result.stderr
    return project


def network(project: Project, name: str) -> StoredNetwork:
    return StoredNetwork.load(project.data("06_models") / f"{name}.safetensors")


def test_every_network_takes_the_ten_digits_and_a_class_for_none(conditional: Project) -> None:
    for name in ("deep", "middle", "shallow", "early", "early_exits"):
        config = network(conditional, name).module.config
        assert (config.classes, config.null_label) == (10, 10)


def test_records_say_the_guidance_of_every_stage_and_count_its_cost(conditional: Project) -> None:
    plans = json.loads((conditional.data("07_model_output") / "evaluated_plans.json").read_text())
    records = json.loads((conditional.data("08_reporting") / "records.json").read_text())
    names = ("deep", "middle", "shallow", "early")
    cost = {name: network(conditional, name).module.macs * (2 if name == "deep" else 1) for name in names}
    ase = network(conditional, "ase").module
    cost |= {f"ase/{depth}": ase.part(str(depth)).macs for depth in ase.exit_depths}
    for name in ("multistage", "searched"):
        unet = network(conditional, f"{name}_0").module
        cost |= {f"{name}/{stage}": unet.part(str(stage)).macs for stage in range(3)}
    scale = {name: 2.0 if name == "deep" else 1.0 for name in cost}
    assert {plan["role"] for plan in plans} >= {"deep", "shallow", "duodiff", "control", "adadiff"}
    for plan in plans:
        found = [record for record in records if record["denoiser"] == plan["name"]]
        assert all(record["guidance"] == [scale[name] for name in plan["serves"]] for record in found)
        if plan["role"] != "adadiff":
            runs = [run.split() for run in plan["runs"].split(", ")]
            expected = sum(int(count) * cost[name] for count, name in runs) / 1e9
            assert found[0]["gmacs"] == pytest.approx(expected)


def test_records_say_how_many_images_have_the_label_they_were_drawn_with(conditional: Project) -> None:
    plans = json.loads((conditional.data("07_model_output") / "evaluated_plans.json").read_text())
    records = json.loads((conditional.data("08_reporting") / "records.json").read_text())
    found = {record["denoiser"]: record for record in records if record["name"] == "label_accuracy"}
    assert list(found) == [plan["name"] for plan in plans]
    blocks = pd.read_parquet(conditional.data("07_model_output") / "seed_blocks.parquet")
    means = blocks.groupby("plan")["label_accuracy"].mean()
    assert all(record["value"] == pytest.approx(means[name]) for name, record in found.items())
    assert {record["expected"] for record in found.values()} == {0.1}
    assert (blocks["label_accuracy"] * 32 % 1 == 0).all()  # of 32 images
    assert "label asked for" in (conditional.data("08_reporting") / "report.html").read_text()


def test_curves_count_the_cost_of_guidance_too(conditional: Project) -> None:
    curves = pd.read_parquet(conditional.data("08_reporting") / "switch_curves.parquet")
    alone = curves[curves["steps"] == 3].drop_duplicates("role").set_index("role")["gmacs"]
    assert alone["deep"] == pytest.approx(3 * 2 * network(conditional, "deep").module.macs / 1e9)
    assert alone["shallow"] == pytest.approx(3 * network(conditional, "shallow").module.macs / 1e9)


def test_a_network_leaves_in_two_layouts_and_comes_back_bit_for_bit(conditional: Project, tmp_path: Path) -> None:
    shutil.copytree(conditional.root, tmp_path / "project")
    project, before = Project(tmp_path / "project"), network(conditional, "deep")
    result = project.kedro("export", "--env", "test", "deep", "exported")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"exported/deep.pth and exported/deep: deep, sha256 {before.sha256}\n"
    assert import_diffusers(project.root / "exported" / "deep").sha256 == before.sha256
    taken = ["path=exported/deep.pth", "predicts=image", "steps=12", "batch_images=16"]
    keys = ",".join(f"backbones.deep.from_checkpoint.{key}" for key in taken)
    pipelines = "training,early_exit,exit_statistics,loss_gap"
    result = project.kedro("run", "--env", "test", "--pipelines", pipelines, "--params", f"{CONDITIONAL},{keys}")
    assert result.returncode == 0, result.stderr
    after = network(project, "deep")
    assert after.sha256 == before.sha256
    assert after.header.training["from_checkpoint"]["file"] == "deep.pth"
    assert after.header.data_sha256 is None
    assert after.header.training["from_checkpoint"]["sha256"] in result.stderr
