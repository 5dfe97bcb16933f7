"""Latents against diffusers' own autoencoder, and what is kept of them."""

import numpy as np
import pytest
import torch
from latent_examples import tiny_autoencoder
from safetensors.torch import load_file, save_file

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.autoencoder import Autoencoder, fetch_autoencoder
from duodiff_pipeline.images.latents import LatentPack

IMAGES = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder")
    tiny_autoencoder(shift_factor=0.25).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def autoencoder(folder) -> Autoencoder:
    return Autoencoder.open(folder, batch_images=3)


@pytest.fixture(scope="module")
def pack(autoencoder) -> LatentPack:
    moments = torch.cat([autoencoder.encode(IMAGES), autoencoder.encode(IMAGES.flip(-1))], dim=1)
    return LatentPack(moments, torch.arange(7) % 3, autoencoder, "ab" * 32, "noise", "train", "none")


def test_encoding_is_diffusers_and_every_image_for_itself(autoencoder):
    posterior = tiny_autoencoder().encode(IMAGES / 127.5 - 1).latent_dist
    found = autoencoder.encode(IMAGES)
    assert found.shape == (7, 2, 4, 4, 4)
    torch.testing.assert_close(found[:, 0], posterior.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 1], posterior.std, atol=1e-5, rtol=1e-5)
    assert torch.equal(autoencoder.encode(IMAGES[:4])[3], found[3])  # whatever comes with it


def test_what_is_scaled_is_scaled_back_before_it_is_decoded(autoencoder):
    z = torch.randn(7, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    images = tiny_autoencoder().decode(z / 0.18215 + 0.25).sample
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round()
    found = autoencoder.decode(z)
    assert (found.dtype, found.shape) == (torch.uint8, (7, 3, 16, 16))
    assert (found.float() - levels).abs().max() <= 1  # of rounding
    assert (found.float() == levels).float().mean() > 0.99
    assert torch.equal(autoencoder.decode(z[:5])[4], found[4])
    torch.testing.assert_close(autoencoder.scaled(torch.full((1,), 2.25)), torch.full((1,), 2 * 0.18215))


def test_a_draw_has_mean_and_spread_of_the_posterior_and_another_is_another(pack):
    indices = torch.tensor([5, 2])
    draws = torch.stack([pack.x0(indices, np.random.default_rng(seed)) for seed in range(4000)]).double()
    mean, std = ((pack.moments[indices, part].double() - 0.25 * (part == 0)) * 0.18215 for part in (0, 1))
    assert ((draws.mean(dim=0) - mean).abs() < 5 * std / 4000**0.5).all()
    torch.testing.assert_close(draws.std(dim=0) / std, torch.ones_like(std), atol=0.07, rtol=0)
    assert torch.equal(pack.x0(indices, np.random.default_rng(3)).double(), draws[3])


def test_a_mirrored_example_is_the_latent_of_the_mirrored_image_not_the_mirrored_latent(pack):
    indices, mirrored = torch.tensor([1, 1]), torch.tensor([False, True])
    drawn = pack.x0(indices, np.random.default_rng(0), mirrored)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(drawn.shape, np.float32))
    posterior = tiny_autoencoder().encode(IMAGES[1].flip(-1)[None] / 127.5 - 1).latent_dist
    expected = (posterior.mean[0] + posterior.std[0] * z[1] - 0.25) * 0.18215
    torch.testing.assert_close(drawn[1], expected, atol=1e-5, rtol=1e-5)
    assert (drawn[1] - drawn[0].flip(-1)).abs().max() > 1e-3
    half = LatentPack(pack.moments[:, :2], pack.labels, pack.autoencoder, "", "", "", "")
    with pytest.raises(InputError, match=r"set data_preparation.autoencoder.mirrored"):
        half.x0(indices, np.random.default_rng(0), mirrored)


def test_a_pack_comes_back_whole_with_its_autoencoder(pack, tmp_path):
    pack.save(tmp_path / "latents.safetensors")
    again = LatentPack.load(tmp_path / "latents.safetensors")
    assert again.sha256 == pack.sha256
    assert (again.shape_chw, again.image_chw, again.classes, len(again)) == ((4, 4, 4), (3, 16, 16), 3, 7)
    z = torch.randn(2, 4, 4, 4)
    assert torch.equal(again.to_images(z), pack.to_images(z))
    assert np.array_equal(pack.rows(), pack.autoencoder.scaled(pack.moments[:, 0]).flatten(1).numpy())
    assert np.array_equal(pack.rows(3), pack.rows()[[0, 2, 4]])


def test_another_autoencoder_makes_another_identity(folder, autoencoder, pack):
    other = Autoencoder(autoencoder.config, {**autoencoder.state}, 3)
    other.state["encoder.conv_in.bias"] = other.state["encoder.conv_in.bias"] + 1
    scaled = Autoencoder({**autoencoder.config, "scaling_factor": 1.0}, autoencoder.state, 3)
    assert len({autoencoder.sha256, other.sha256, scaled.sha256}) == 3
    assert Autoencoder.open(folder, 3).sha256 == autoencoder.sha256
    assert LatentPack(pack.moments, pack.labels, other, "ab" * 32, "noise", "train", "none").sha256 != pack.sha256


def test_names_of_older_files_are_known(folder, autoencoder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in older.items():
        weights = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in weights.items()}
    assert sum(".proj_attn." in name for name in weights) == 4
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    assert Autoencoder.open(tmp_path, 3).sha256 == autoencoder.sha256


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 18, 18)])
def test_images_that_it_does_not_take_are_refused(autoencoder, shape):
    with pytest.raises(InputError, match=r"3 channels and a multiple of 4 pixels a side, not \("):
        autoencoder.latent_shape(shape)


def test_what_is_no_autoencoder_is_said_in_one_line(folder, tmp_path):
    with pytest.raises(InputError, match=r"config.json is missing or damaged: data_preparation.autoencoder needs"):
        Autoencoder.open(tmp_path, 1)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text().replace("AutoencoderKL", "VQModel"))
    weights = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="is of VQModel, but latents need an AutoencoderKL"):
        Autoencoder.open(tmp_path, 1)
    other = (folder / "config.json").read_text().replace('"latent_channels": 4', '"latent_channels": 8')
    (tmp_path / "config.json").write_text(other)
    with pytest.raises(InputError, match="does not fit"):
        Autoencoder.open(tmp_path, 1)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(weights[:-9])
    with pytest.raises(InputError, match=r"safetensors is missing or damaged"):
        Autoencoder.open(tmp_path, 1)
    with pytest.raises(InputError, match="gone is no folder"):
        fetch_autoencoder(str(tmp_path / "gone"), None, None)


def test_the_hub_out_of_reach_is_said_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    import huggingface_hub

    def unreachable(*arguments, **options):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(InputError, match=r"some/vae .* \(no network\).*, or set data_preparation.autoencoder.path"):
        fetch_autoencoder("some/vae", None, None)
