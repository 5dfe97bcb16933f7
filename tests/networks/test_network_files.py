import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.files import EXITS, StoredNetwork, exit_kind


@pytest.fixture
def stored(make_uvit, make_stored):
    return make_stored(
        make_uvit(num_classes=4, predicts="image"), timestep_range=(0.0, 700.5), backbone_sha256="cd" * 32
    )


def assert_refused(path, *words: str) -> None:
    with pytest.raises(InputError) as refusal:
        StoredNetwork.load(path)
    message = str(refusal.value)
    assert "\n" not in message
    assert str(path) in message
    assert all(word in message for word in words)


def test_round_trip_keeps_weights_header_and_identity(stored, tmp_path):
    path = tmp_path / "networks" / "deep.safetensors"
    stored.save(path)
    loaded = StoredNetwork.load(path)
    assert loaded.header == stored.header
    assert loaded.sha256 == stored.sha256
    assert loaded.module.config == stored.module.config
    x, timesteps, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 900]), torch.tensor([0, 3])
    assert torch.equal(loaded.module(x, timesteps, labels), stored.module(x, timesteps, labels))


@pytest.mark.parametrize(("variant", "probe", "backbone"), EXITS)
def test_early_exits_round_trip(variant, probe, backbone, make_stored, tmp_path, request):
    network = request.getfixturevalue(f"make_{backbone}")()
    make = request.getfixturevalue("make_exits" if variant == "duodiff" else "make_shared_exits")
    stored = make_stored(make(network, probe=probe), exit_kind(variant, probe, backbone))
    stored.save(tmp_path / "exits.safetensors")
    loaded = StoredNetwork.load(tmp_path / "exits.safetensors")
    assert type(loaded.module) is type(stored.module)
    assert loaded.sha256 == stored.sha256


def test_the_parameters_of_early_exits_keep_their_names(make_uvit, make_exits):
    names = {name.split(".", 2)[2] for name in make_exits(make_uvit()).state_dict()}
    layers = ("norm", "decoder_pred", "final_layer", "linear")
    assert names == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_exits_of_another_kind_do_not_fit(make_uvit, make_exits, make_stored, tmp_path):
    path = tmp_path / "exits.safetensors"
    make_stored(make_exits(make_uvit()), "shared_exits").save(path)
    assert_refused(path, "does not fit its architecture")


def test_half_precision_halves_the_file_and_rounds_every_weight(make_uvit, make_stored, tmp_path):
    network = make_uvit()
    make_stored(network).save(tmp_path / "whole.safetensors")
    make_stored(network, stored_as="float16").save(tmp_path / "half.safetensors")
    whole, half = StoredNetwork.load(tmp_path / "whole.safetensors"), StoredNetwork.load(tmp_path / "half.safetensors")
    weights = sum(p.numel() for p in network.parameters())
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, abs=200)
    for name, tensor in half.module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, whole.module.state_dict()[name].half().float())
    half.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "half.safetensors").read_bytes()


def test_a_weight_too_large_for_half_precision_is_refused(make_uvit, make_stored, tmp_path):
    network = make_uvit()
    network.norm.weight[0] = 1e5
    with pytest.raises(InputError, match="not finite in float16"):
        make_stored(network, stored_as="float16").save(tmp_path / "half.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_stored_network_is_frozen_and_in_evaluation_mode(make_uvit, make_stored):
    module = make_uvit().train().requires_grad_(True)
    stored = make_stored(module)
    assert not stored.module.training
    assert not any(p.requires_grad for p in stored.module.parameters())
    assert stored.parameters == sum(p.numel() for p in module.parameters())


def test_sha256_identifies_the_weights_whatever_the_header(make_uvit, make_stored):
    same = {make_stored(make_uvit(1)).sha256, make_stored(make_uvit(1), step=99).sha256}
    assert len(same) == 1
    changed = make_uvit(1)
    changed.final_layer.bias[0] += 1e-6
    assert make_stored(changed).sha256 not in same


def test_a_missing_file_is_named(tmp_path):
    assert_refused(tmp_path / "none.safetensors", "does not exist")


@pytest.mark.parametrize("position", [0.02, 0.3, 0.6, 0.999])
def test_a_flipped_bit_is_refused(stored, tmp_path, position):
    path = tmp_path / "deep.safetensors"
    stored.save(path)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    assert_refused(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(stored, tmp_path, share):
    path = tmp_path / "deep.safetensors"
    stored.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path, "damaged")


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "train.safetensors"
    ImagePack(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), "digits", "train", "none").save(path)
    assert_refused(path, "holds 'image pack', not 'network'")


def test_a_network_of_a_kind_nobody_builds_is_refused(make_uvit, make_stored, tmp_path):
    path = tmp_path / "decoder.safetensors"
    make_stored(make_uvit(), "multi_decoder").save(path)
    assert_refused(path, "multi_decoder", "early_exits", "uvit")


def test_weights_that_do_not_fit_the_architecture_are_refused(make_uvit, make_stored, tmp_path):
    path = tmp_path / "deep.safetensors"
    deeper = make_stored(make_uvit(depth=5)).header.architecture
    make_stored(make_uvit(), architecture=deeper).save(path)
    assert_refused(path, "does not fit its architecture", "blocks.1")
