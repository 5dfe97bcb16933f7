"""A backbone from a foreign checkpoint: what its file says, and what is refused."""

import pytest
import torch

from duodiff_pipeline.config import Backbone, Noise
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.official import Checkpoint, export_official
from duodiff_pipeline.pipelines.training.nodes import take_checkpoint

NOISE = Noise(kind="linear", timesteps=1000)


@pytest.fixture
def train() -> ImagePack:
    """Four classes."""
    return ImagePack(torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.arange(8) % 4, "made up", "train", "none")


def backbone(path, **changes) -> Backbone:
    taken = {"path": str(path), "steps": 1000, "batch_images": 128, **changes}
    return Backbone(patch=4, width=16, depth=3, heads=2, steps=5, from_checkpoint=taken)


@pytest.fixture
def exported(make_uvit, make_stored, tmp_path):
    def export(**changes):
        stored = make_stored(make_uvit(**changes))
        export_official(stored, tmp_path / "nnet.pth")
        return stored, tmp_path / "nnet.pth"

    return export


@pytest.mark.parametrize(("embeddings", "null_class"), [(0, False), (4, False), (5, True)])
def test_a_checkpoint_becomes_a_network_file_that_says_where_it_comes_from(
    exported, train, caplog, embeddings, null_class
):
    stored, path = exported(num_classes=embeddings, null_class=null_class)
    with caplog.at_level("INFO", logger="duodiff_pipeline"):
        taken, curve, seconds = take_checkpoint(backbone(path), train, NOISE, "deep")
    assert taken.sha256 == stored.sha256
    header, sha256 = taken.header, Checkpoint.read(path).sha256
    assert header.training == {"from_checkpoint": {"file": "nnet.pth", "sha256": sha256}, "batch_images": 128}
    assert (header.step, header.weights, header.data_sha256, header.timestep_range) == (1000, "ema", None, (0, 1000))
    assert header.architecture["noise"] == {"kind": "linear", "timesteps": 1000}
    assert curve == {"losses": [], "training_gmacs": pytest.approx(1000 * 128 * 3 * taken.module.macs / 1e9)}
    assert seconds == {"seconds": None}
    assert sha256 in caplog.text
    assert "deep is nnet.pth, taken as trained on linear noise of 1000 timesteps" in caplog.text


def refusal(*arguments) -> str:
    with pytest.raises(InputError) as caught:
        take_checkpoint(*arguments, NOISE, "deep")
    assert str(caught.value).startswith("backbones.deep.from_checkpoint: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_architecture_than_the_parameters_say_is_told_as_a_whole(exported, train):
    _, path = exported(depth=5, width=32)
    assert refusal(backbone(path), train).endswith("say: width 32, not 16; depth 5, not 3")


def test_a_network_for_other_images_is_refused(exported, train):
    _, path = exported(channels=3, image_size=16)
    assert refusal(backbone(path), train).endswith("say: image_size 16, not 8; channels 3, not 1")


def test_a_network_of_other_classes_is_refused(exported, train):
    _, path = exported(num_classes=1000)
    assert refusal(backbone(path), train).endswith("say: classes 1000, not 4")


def test_another_file_than_the_one_meant_is_refused(exported, train):
    _, path = exported()
    assert "it is another file, or damaged" in refusal(backbone(path, sha256="0" * 64), train)
