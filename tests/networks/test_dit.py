"""The plain stack: shapes, cost by formula, and how adaLN-zero begins."""

from dataclasses import asdict

import pytest
import torch

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.dit import DiT, DiTConfig, modulate
from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.networks.uvit import timestep_embedding, unpatchify

GENERATOR = torch.Generator()
X = torch.randn(3, 2, 8, 8, generator=GENERATOR.manual_seed(0))
TIMESTEPS = torch.tensor([3, 500, 999])


def make(**changes) -> DiT:
    network = DiT(
        DiTConfig(**{"image_size": 8, "channels": 2, "patch": 2, "width": 12, "depth": 3, "heads": 2, **changes})
    )
    network.init_weights(torch.Generator().manual_seed(1))
    return network


def filled(**changes) -> DiT:
    network = make(**changes)
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return network


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 4])])
def test_noise_has_the_shape_of_the_images(labels):
    network = filled(num_classes=0 if labels is None else 5)
    assert network(X, TIMESTEPS, labels).shape == X.shape
    assert network.predict(X, 3.0, labels).eps.shape == X.shape
    with pytest.raises(InputError, match="labels are needed exactly where it has any"):
        network(X, TIMESTEPS, None if labels is not None else torch.tensor([0, 1, 2]))


def test_cost_is_that_of_the_formula():
    p, d, depth, patch, channels = 16, 12, 3, 2, 2
    read_in = p * patch**2 * channels * d
    time = 2 * d * d
    block = 6 * d * d + p * (3 + 1 + 4 + 4) * d * d + 2 * p * p * d
    read_out = 2 * d * d + p * d * patch**2 * channels
    assert filled().macs == read_in + time + depth * block + read_out
    assert filled(predicts="image").macs == filled().macs
    assert filled(num_classes=7).macs == filled().macs


def test_it_begins_as_a_plain_read_out_whatever_its_depth():
    """Gates of zero make every block the identity, so only patches and their places come through; and no noise yet."""
    network = make()
    assert torch.equal(network(X, TIMESTEPS), torch.zeros_like(X))
    torch.nn.init.normal_(network.final_linear.weight, generator=torch.Generator().manual_seed(3))
    whole = network(X, TIMESTEPS)
    tokens = network.norm(network.patch_embed(X) + network.positions)
    assert torch.equal(whole, unpatchify(network.final_linear(tokens), 2, 2))
    for depth in network.exit_depths:
        assert torch.equal(network.part(str(depth))(X, TIMESTEPS), whole)
    assert torch.equal(network(X, TIMESTEPS.flip(0)), whole)  # nor does time, yet


def test_shift_and_scale_are_those_of_time_and_class():
    x, shift, scale = torch.randn(2, 5, 4), torch.randn(2, 4), torch.randn(2, 4)
    for n in range(2):
        assert torch.equal(modulate(x, shift, scale)[n], x[n] * (1 + scale[n]) + shift[n])
    network = filled(num_classes=5)
    by_time = network(X, TIMESTEPS, torch.tensor([1, 1, 1]))
    assert not torch.allclose(by_time[0], network(X, TIMESTEPS.flip(0), torch.tensor([1, 1, 1]))[0])
    assert not torch.allclose(by_time, network(X, TIMESTEPS, torch.tensor([2, 2, 2])))


def test_places_are_told_apart_by_row_and_column():
    network = make()
    rows, columns = network.positions[0].view(4, 4, 12).split(6, dim=2)
    along = timestep_embedding(torch.arange(4), 6)
    for i in range(4):
        assert torch.equal(rows[i], along[i].expand(4, 6))
        assert torch.equal(columns[:, i], along[i].expand(4, 6))
    assert "positions" not in network.state_dict()


def test_an_image_it_predicts_becomes_the_noise():
    network = filled(predicts="image")
    as_noise = filled()
    abar = torch.from_numpy(NoiseSchedule().abar)[TIMESTEPS][:, None, None, None]
    expected = (X - abar.sqrt() * as_noise(X, TIMESTEPS)) / (1 - abar).sqrt()
    torch.testing.assert_close(network(X, TIMESTEPS), expected.float(), rtol=1e-4, atol=1e-5)


def test_impossible_numbers_are_refused():
    with pytest.raises(InputError, match="patch 3 does not divide the image size 8"):
        make(patch=3)
    with pytest.raises(InputError, match="heads 5 does not divide the width 12"):
        make(heads=5)
    with pytest.raises(InputError, match="width 9 is odd"):
        make(width=9, heads=3)
    assert make(depth=4).exit_depths == range(1, 5)


def test_a_network_file_gives_it_back(make_stored, tmp_path):
    network = filled(noise=NoiseSchedule("cosine"))
    expected = network(X, TIMESTEPS)
    make_stored(network, "dit", exit_schedule={"depths": [3, 1], "noise": asdict(NoiseSchedule())}).save(tmp_path / "n")
    loaded = StoredNetwork.load(tmp_path / "n")
    assert isinstance(loaded.module, DiT)
    assert loaded.module.config == network.config
    assert loaded.header.exit_schedule["depths"] == [3, 1]
    assert torch.equal(loaded.module(X, TIMESTEPS), expected)
