"""The node and pipeline that train a backbone for the first stage alone."""

from pathlib import Path

import pytest
import torch
import yaml

from duodiff_pipeline.config import Backbone, HardwareSettings, Noise, Training
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.pipelines.stage_training import create_pipeline
from duodiff_pipeline.pipelines.stage_training.nodes import train_for_stage

CONF = yaml.safe_load((Path(__file__).parents[2] / "conf" / "base" / "parameters.yml").read_text())
HARDWARE = HardwareSettings(accelerator="cpu", devices=1, precision="32-true", threads=1)
TRAINING = Training(**{**CONF["training"], "batch_images": 8, "warmup_steps": 1, "stored_as": "float32"})
NOISE = Noise(kind="cosine", timesteps=1000)
SUGGESTED = [{"steps": 10, "k": 3, "timestep_edge": 649.0}, {"steps": 20, "k": 5, "timestep_edge": 749.0}]


@pytest.fixture
def pack() -> ImagePack:
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImagePack(images, torch.zeros(20, dtype=torch.int64), "made up", "train", "none")


def backbone(**stage) -> Backbone:
    return Backbone.model_validate(
        {"patch": 4, "width": 16, "depth": 1, "heads": 2, "steps": 3, "stage": {"margin": 50, "teacher": None, **stage}}
    )


def test_a_stage_without_an_edge_ends_where_the_loss_gap_says(pack, tmp_path):
    def train(suggested) -> StoredNetwork:
        own = (backbone(edge=None), pack, TRAINING, NOISE, HARDWARE, 0, tmp_path, "early", suggested)
        return train_for_stage(*own)[0]

    assert train(SUGGESTED).header.timestep_range == (699, 1000)  # of most steps, and a margin
    assert train(SUGGESTED[:1]).header.timestep_range == (599, 1000)
    with pytest.raises(InputError, match=r"backbones.early.stage: the loss gap says to switch at once"):
        train([{"steps": 10, "k": 0, "timestep_edge": 1000.0}])


def test_the_loss_gap_is_asked_only_where_no_edge_is_given():
    def inputs(edge) -> set[str]:
        return create_pipeline({"early": {"edge": edge, "margin": 50, "teacher": None}}).inputs()

    assert inputs(None) - inputs(500.0) == {"loss_gap_switches"}


def test_a_teacher_is_an_input_by_its_own_name():
    pipeline = create_pipeline({"early": {"edge": 500.0, "margin": 50, "teacher": "deep"}})
    assert "deep.network" in pipeline.inputs()
    assert "early.network" in pipeline.outputs()
