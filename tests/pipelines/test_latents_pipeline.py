"""From images over latents, training and sampling to images again and their FID."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from latent_examples import tiny_autoencoder

from duodiff_pipeline.config import Backbone, DataPreparation, HardwareSettings, Noise, Sampling, Training
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.metrics.frechet import GaussianStatistics
from duodiff_pipeline.metrics.reference import ReferenceStatistics
from duodiff_pipeline.pipelines.data_preparation import latents as node
from duodiff_pipeline.pipelines.data_preparation.latents import encode_latents
from duodiff_pipeline.pipelines.measuring import make_meter
from duodiff_pipeline.pipelines.training.nodes import train_backbone

PROJECT = Path(__file__).parents[2]
HARDWARE = HardwareSettings(accelerator="cpu", devices=1, precision="32-true", threads=1)
NOISE = Noise(kind="linear", timesteps=50)


class Killed(BaseException): ...


class MeanColours:
    """Four features of an image: of its quarters."""

    name, sha256 = "quarters", "0" * 64

    def to(self, device) -> None: ...

    def __call__(self, images_u8):
        assert images_u8.shape[1:] == (3, 16, 16)
        return torch.nn.functional.adaptive_avg_pool2d(images_u8.float().mean(dim=1), 2).flatten(1)


def images(n: int, split: str, seed: int) -> ImagePack:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3, 16, 16), dtype=np.uint8)
    return ImagePack(torch.from_numpy(pixels), torch.arange(n) % 2, "noise", split, "none")


@pytest.fixture
def settings(tmp_path) -> DataPreparation:
    tiny_autoencoder().save_pretrained(tmp_path / "vae")
    of_folder = {"source": "digits", "folder": None, "held_out_share": 0.3, "seed": 0}
    nothing = dict.fromkeys(("image_size", "crop", "resize_filter", "mode", "labels"))
    autoencoder = {"path": str(tmp_path / "vae"), "batch_images": 4}
    return DataPreparation(**of_folder, **nothing, autoencoder=autoencoder)


def training(**changes) -> Training:
    with (PROJECT / "conf" / "base" / "parameters.yml").open() as base:
        return Training(**{**yaml.safe_load(base)["training"], "batch_images": 4, "flip": True, **changes})


def test_two_steps_of_training_end_in_images_and_their_fid(settings, tmp_path):
    train, held_out = images(10, "train", 0), images(6, "held_out", 1)
    z_train, z_held_out, record = encode_latents(train, held_out, settings, HARDWARE, tmp_path / "work")
    assert (z_train.shape_chw, z_train.image_chw, z_train.images_sha256) == ((4, 4, 4), (3, 16, 16), train.sha256)
    assert z_train.labels.tolist() == train.labels.tolist()

    backbone = Backbone(patch=2, width=16, depth=3, heads=2, steps=2)
    stored, _, _ = train_backbone(
        backbone, z_train, training(warmup_steps=1), NOISE, HARDWARE, 0, tmp_path / "work", "deep"
    )
    assert stored.header.data_sha256 == z_train.sha256
    assert stored.header.step == 2

    extractor = MeanColours()
    features = extractor(held_out.images).numpy()
    reference = ReferenceStatistics(GaussianStatistics.from_features(features), "quarters", "0" * 64, "", "held_out")
    sampling = Sampling(micro_batch_images=4, guidance=1.0)
    meter = make_meter(extractor, reference, z_held_out, None, NOISE, sampling, HARDWARE)
    measured = meter.measure(stored.module, Solver("ddim", 3), seed=5)
    assert measured.images.shape == (6, 3, 16, 16)
    assert np.isfinite(measured.fid)
    latents = sample(stored.module, Solver("ddim", 3), NOISE.schedule(), (4, 4, 4), range(6), 5, 4).images
    assert torch.equal(measured.images, z_held_out.to_images(latents))
    assert measured.trace.gmacs_per_image == pytest.approx(3 * stored.module.macs / 1e9)  # the decoder's apart
    decoder = sum(tensor.numel() for name, tensor in tiny_autoencoder().decoder.named_parameters())
    assert record["decoding_parameters"] == decoder + 4 * 4 + 4  # and the convolution before it
    assert record["decoding_gmacs"] > 0


def test_every_image_is_encoded_once_and_a_kill_is_gone_on_from(settings, tmp_path, monkeypatch):
    packs = images(10, "train", 0), images(6, "held_out", 1)
    whole = encode_latents(*packs, settings, HARDWARE, tmp_path / "elsewhere")
    encode, encoded = node.Autoencoder.encode, [0]

    def counted(self, images_u8, device):
        if encoded[0] == 3:
            raise Killed
        encoded[0] += 1
        return encode(self, images_u8, device)

    monkeypatch.setattr(node.Autoencoder, "encode", counted)
    with pytest.raises(Killed):
        encode_latents(*packs, settings, HARDWARE, tmp_path / "work")
    encoded[0] = -100
    again = encode_latents(*packs, settings, HARDWARE, tmp_path / "work")
    assert [pack.sha256 for pack in again[:2]] == [pack.sha256 for pack in whole[:2]]
    assert encoded[0] == -100 + 8  # 2 batches were left of 3, and 2 of 2, each with its mirror images
    encoded[0] = 3
    encode_latents(*packs, settings, HARDWARE, tmp_path / "work")


def test_another_autoencoder_than_the_one_that_is_meant_is_refused(settings, tmp_path):
    meant = settings.autoencoder.model_copy(update={"sha256": "0" * 64})
    packs = images(10, "train", 0), images(6, "held_out", 1)
    with pytest.raises(InputError, match=r"data_preparation.autoencoder.sha256: .* has [0-9a-f]{64}: take the one"):
        encode_latents(*packs, settings.model_copy(update={"autoencoder": meant}), HARDWARE, tmp_path / "work")
