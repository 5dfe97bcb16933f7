"""Checkpoints as U-ViT and DuoDiff publish them, written by the tests, against a forward pass of their own."""

import argparse
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks import import_checkpoint
from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.networks.official import Checkpoint, export_diffusers, export_official, import_diffusers

State = dict[str, Tensor]
HEADS = 4


def official_state(
    size=8, channels=3, patch=2, width=32, pairs=2, classes=0, ratio=4, final_conv=True, seed=0
) -> State:
    """Random weights under the official names, large enough that a mistake in any of them shows."""
    d, tokens = width, (size // patch) ** 2 + (2 if classes else 1)
    shapes = {"pos_embed": (1, tokens, d), "patch_embed.proj.weight": (d, channels, patch, patch)}
    shapes |= {"patch_embed.proj.bias": (d,), **({"label_emb.weight": (classes, d)} if classes else {})}
    for block in [*(f"in_blocks.{i}" for i in range(pairs)), "mid_block", *(f"out_blocks.{i}" for i in range(pairs))]:
        linear = {"attn.proj": (d, d), "mlp.fc1": (ratio * d, d), "mlp.fc2": (d, ratio * d)}
        linear |= {"skip_linear": (d, 2 * d)} if block.startswith("out") else {}
        shapes[f"{block}.attn.qkv.weight"] = (3 * d, d)
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}.{name}.weight": (d,), f"{block}.{name}.bias": (d,)}
        for name, shape in linear.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
    outputs = patch * patch * channels
    shapes |= {"norm.weight": (d,), "norm.bias": (d,), "decoder_pred.weight": (outputs, d)}
    shapes |= {"decoder_pred.bias": (outputs,)}
    if final_conv:
        shapes |= {"final_layer.weight": (channels, channels, 3, 3), "final_layer.bias": (channels,)}
    generator = torch.Generator().manual_seed(seed)
    return {
        name: ("norm" in name and name.endswith("weight")) + 0.15 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def official_forward(state: State, x: Tensor, time: Tensor, labels: Tensor | None = None, heads: int = HEADS) -> Tensor:
    """The official network as its layout defines it; time: (N,) what is embedded."""
    n, d = len(x), state["norm.weight"].numel()
    patch, channels = state["patch_embed.proj.weight"].shape[-1], x.shape[1]

    def linear(name: str, h: Tensor) -> Tensor:
        return F.linear(h, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str, h: Tensor) -> Tensor:
        return F.layer_norm(h, (d,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)

    def block(name: str, h: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            h = linear(f"{name}.skip_linear", torch.cat([h, skip], -1))
        q, k, v = (
            part.unflatten(-1, (heads, d // heads)).transpose(1, 2)
            for part in linear(f"{name}.attn.qkv", norm(f"{name}.norm1", h)).chunk(3, dim=-1)
        )
        attention = (q @ k.mT / math.sqrt(d // heads)).softmax(-1) @ v
        h = h + linear(f"{name}.attn.proj", attention.transpose(1, 2).flatten(2))
        return h + linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", h))))

    frequencies = torch.exp(-math.log(10000) * torch.arange(d // 2) / (d // 2))
    angles = time.float()[:, None] * frequencies
    patches = F.unfold(x, patch, stride=patch).mT  # (N, P, C p p): the convolution of the patches written as a product
    embedded = F.linear(patches, state["patch_embed.proj.weight"].flatten(1), state["patch_embed.proj.bias"])
    tokens = [torch.cat([angles.cos(), angles.sin()], -1)[:, None], embedded]
    if labels is not None:
        tokens.insert(0, state["label_emb.weight"][labels][:, None])
    h = torch.cat(tokens, 1) + state["pos_embed"]
    pairs, stack = sum(name.startswith("in_blocks") and name.endswith("norm1.bias") for name in state), []
    for i in range(pairs):
        h = block(f"in_blocks.{i}", h)
        stack.append(h)
    h = block("mid_block", h)
    for i in range(pairs):
        h = block(f"out_blocks.{i}", h, stack.pop())
    pixels = linear("decoder_pred", norm("norm", h))[:, len(tokens) - 1 :]
    side = math.isqrt(patches.shape[1])
    pixels = pixels.reshape(n, side, side, patch, patch, channels)
    image = torch.einsum("nhwpqc->nchpwq", pixels).reshape(n, channels, side * patch, side * patch)
    if "final_layer.weight" not in state:
        return image
    return F.conv2d(image, state["final_layer.weight"], state["final_layer.bias"], padding=1)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def wrapped(state: State, **args: object) -> dict[str, object]:
    """As DuoDiff's training leaves it."""
    return {
        "step": 500_000,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 2e-4}]},
        "scaler_state_dict": {},
        "lr_scheduler_state_dict": {"base_lrs": [2e-4]},
        "dataloader_sampler_state": {"index": 7},
        "args": argparse.Namespace(dataset="cifar10", batch_size=128, use_amp=False, **args),
        "train_state": {"losses": [0.1, 0.05]},
    }


def pictures(state: State, size: int) -> tuple[Tensor, Tensor]:
    channels = state["patch_embed.proj.weight"].shape[1]
    x = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0, 7, 500, 999])


@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"patch": 4, "channels": 1},
        {"patch": 1, "size": 4},
        {"final_conv": False},
        {"pairs": 0},
        {"pairs": 3, "ratio": 2, "width": 48},
    ],
    ids=str,
)
def test_an_imported_network_predicts_what_the_official_one_does(tmp_path, shape, classes):
    state = official_state(**shape, classes=classes)
    network = import_checkpoint(saved(tmp_path / "nnet.pth", state), heads=HEADS)
    x, timesteps = pictures(state, shape.get("size", 8))
    labels = torch.tensor([4, 0, 3, 3]) if classes else None
    expected = official_forward(state, x, timesteps, labels)
    assert expected.std() > 0.3
    torch.testing.assert_close(network(x, timesteps, labels), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        network.predict(x, 500.0, labels).eps,
        official_forward(state, x, torch.full((4,), 500), labels),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize(("scale", "shown"), [(1.0, lambda n: n), (0.001, lambda n: n / 1000)])
def test_the_time_that_a_network_sees_is_the_one_it_was_trained_on(tmp_path, scale, shown):
    state = official_state()
    network = import_checkpoint(saved(tmp_path / "nnet.pth", wrapped(state)), HEADS, timestep_scale=scale)
    x, timesteps = pictures(state, 8)
    torch.testing.assert_close(network(x, timesteps), official_forward(state, x, shown(timesteps)), rtol=0, atol=1e-5)
    other = official_forward(state, x, timesteps / 1000 if scale == 1 else timesteps)
    assert (network(x, timesteps) - other).abs().max() > 0.01


def test_the_architecture_is_read_from_the_tensors(tmp_path):
    state = official_state(size=12, channels=4, patch=3, width=24, pairs=3, classes=7, ratio=2, final_conv=False)
    noise = NoiseSchedule("cosine", 100)
    path = saved(tmp_path / "nnet.pth", state)
    config = import_checkpoint(path, 6, 0.001, "image", noise, null_class=True).config
    assert (config.image_size, config.channels, config.patch, config.width, config.depth) == (12, 4, 3, 24, 7)
    assert (config.num_classes, config.classes, config.null_label, config.mlp_ratio) == (7, 6, 6, 2)
    assert (config.heads, config.timestep_scale, config.predicts, config.noise) == (6, 0.001, "image", noise)
    assert not config.final_conv
    assert import_checkpoint(path, 6).config.noise == NoiseSchedule("linear", 1000)


def test_a_bare_checkpoint_holds_averaged_weights_and_a_wrapped_one_raw_ones(tmp_path):
    state = official_state()
    bare, full = (Checkpoint.read(saved(tmp_path / f"{i}.pth", c)) for i, c in enumerate((state, wrapped(state))))
    assert (bare.weights, full.weights) == ("ema", "raw")
    assert all(torch.equal(bare.state[name], full.state[name]) for name in state)
    assert full.sha256 == hashlib.sha256((tmp_path / "1.pth").read_bytes()).hexdigest()


def test_the_sha256_is_shown_and_another_file_refused(tmp_path, caplog):
    path = saved(tmp_path / "nnet.pth", official_state())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with caplog.at_level("INFO", logger="duodiff_pipeline"):
        import_checkpoint(path, HEADS, sha256=sha256)
    assert f"{path}: sha256 {sha256}" in caplog.text
    assert_refused(path, f"sha256 {sha256}, not {'0' * 64}", sha256="0" * 64)


class Executes:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def assert_refused(path: Path, *words: str, heads: int = HEADS, **options) -> None:
    with pytest.raises(InputError) as refusal:
        import_checkpoint(path, heads, **options)
    message = str(refusal.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("wrap", [False, True])
def test_nothing_but_a_namespace_is_unpickled(tmp_path, wrap):
    state, folder = official_state(), tmp_path / "EXECUTED"
    payload = Executes(folder)
    content = wrapped(state, hook=payload) if wrap else {**state, "hook": payload}
    assert_refused(saved(tmp_path / "nnet.pth", content), "mkdir, which is not loaded", "argparse.Namespace")
    assert not folder.exists()
    with pytest.raises(InputError, match="is another file, or damaged"):
        import_checkpoint(tmp_path / "nnet.pth", HEADS, sha256="0" * 64)


def test_a_type_that_is_not_loaded_is_named(tmp_path):
    path = saved(tmp_path / "nnet.pth", wrapped(official_state(), data_path=Path("/data")))
    assert_refused(path, "PosixPath, which is not loaded")


def test_the_allowance_does_not_outlast_the_import(tmp_path):
    path = saved(tmp_path / "nnet.pth", wrapped(official_state()))
    import_checkpoint(path, HEADS)
    with pytest.raises(Exception, match=r"argparse\.Namespace"):
        torch.load(path, weights_only=True)


def test_all_that_does_not_fit_is_listed_with_its_shape(tmp_path):
    state = official_state(classes=3)
    state["time_embed.0.weight"] = torch.zeros(128, 32)
    state["mid_block.attn.qkv.bias"] = torch.zeros(96)
    state["norm.weight"] = torch.zeros(31)
    del state["out_blocks.1.skip_linear.bias"], state["final_layer.bias"]
    assert_refused(
        saved(tmp_path / "nnet.pth", state),
        "it lacks out_blocks.1.skip_linear.bias (32,), final_layer.bias (3,); ",
        "it has time_embed.0.weight (128, 32), mid_block.attn.qkv.bias (96,) besides; ",
        "it has norm.weight (31,) instead of (32,)",
    )


def test_tokens_that_make_no_square_are_refused(tmp_path):
    state = official_state()
    state["pos_embed"] = torch.zeros(1, 16, 32)
    assert_refused(saved(tmp_path / "nnet.pth", state), "it has pos_embed (1, 16, 32) instead of (1, 10, 32)")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weight": torch.zeros(3)}, "holds no U-ViT: there is no pos_embed, patch_embed.proj.weight, mid_block"),
        ({"weight": torch.zeros(3)}, "but weight (3,)"),
        ([1, 2], "holds no state dict, neither bare nor as model_state_dict"),
        ({"model_state_dict": {"weight": 3}}, "holds no state dict"),
        ({"epoch": 3, "state": {}}, "holds no state dict"),
        ({}, "holds no state dict"),
        ({0: torch.zeros(3)}, "holds no state dict"),
        (official_state() | {"patch_embed.proj.weight": torch.zeros(32, 3, 0, 0)}, "there is no patch_embed.proj.wei"),
        (official_state() | {"label_emb.weight": torch.zeros(())}, "it has label_emb.weight () besides"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path, content, words):
    assert_refused(saved(tmp_path / "nnet.pth", content), words)


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_that_do_not_divide_the_width_are_refused(tmp_path, heads):
    path = saved(tmp_path / "nnet.pth", official_state())
    assert_refused(path, f"heads {heads} does not divide the width 32", heads=heads)


@pytest.mark.parametrize("odd", [torch.full((32,), torch.nan), torch.zeros(32, dtype=torch.int64)])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, odd):
    assert_refused(saved(tmp_path / "nnet.pth", official_state() | {"norm.bias": odd}), "norm.bias must hold finite")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert_refused(tmp_path / "none.pth", "cannot be read: No such file or directory")
    assert_refused(tmp_path, "cannot be read: Is a directory")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = saved(tmp_path / "nnet.pth", official_state())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path)


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path):
    state = official_state(width=8, pairs=0)
    path = saved(tmp_path / "nnet.pth", state)
    content = path.read_bytes()
    unchanged = 0
    for position in range(0, len(content), len(content) // 25):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        try:
            found = import_checkpoint(path, HEADS).state_dict()
        except InputError:
            continue
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
        unchanged += 1
    assert unchanged < 10


@pytest.mark.parametrize("classes", [0, 5])
def test_a_network_survives_the_official_layout_bit_for_bit(make_uvit, make_stored, tmp_path, classes):
    stored = make_stored(make_uvit(num_classes=classes, null_class=bool(classes), predicts="image", depth=5))
    export_official(stored, tmp_path / "nnet.pth")
    state = torch.load(tmp_path / "nnet.pth", weights_only=True)
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in official_state(channels=1, patch=4, width=16, classes=classes).items()
    }
    network = import_checkpoint(tmp_path / "nnet.pth", 2, predicts="image", null_class=bool(classes))
    assert make_stored(network).sha256 == stored.sha256
    assert network.config == stored.module.config
    export_official(stored, tmp_path / "again.pth")
    assert (tmp_path / "again.pth").read_bytes() == (tmp_path / "nnet.pth").read_bytes()


def test_a_network_survives_a_diffusers_folder_bit_for_bit(make_uvit, make_stored, tmp_path):
    stored = make_stored(make_uvit(num_classes=5, null_class=True), timestep_range=(0.0, 700.5), stored_as="float16")
    export_diffusers(stored, tmp_path / "deep")
    loaded = import_diffusers(tmp_path / "deep")
    assert (loaded.sha256, loaded.header) == (stored.sha256, stored.header)
    config = json.loads((tmp_path / "deep" / "config.json").read_text())
    assert (config["_class_name"], config["num_classes"], config["noise"]) == (
        "UViT",
        5,
        {"kind": "linear", "timesteps": 1000},
    )
    weights = load_file(tmp_path / "deep" / "diffusion_pytorch_model.safetensors")
    assert set(weights) == set(official_state(pairs=1, classes=5))
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]


def test_a_diffusers_folder_of_others_is_refused(make_uvit, make_stored, tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing, damaged or not what is exported here"):
        import_diffusers(tmp_path)
    export_diffusers(make_stored(make_uvit()), tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(InputError, match=r"config\.json is missing, damaged or not"):
        import_diffusers(tmp_path)
    export_diffusers(make_stored(make_uvit()), tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match="safetensors is missing, damaged"):
        import_diffusers(tmp_path)


def test_what_the_official_layout_cannot_tell_is_not_exported(make_uvit, make_exits, make_stored, tmp_path):
    network = make_uvit()
    exits, staged = make_stored(make_exits(network), "early_exits"), make_stored(network, timestep_range=(600, 1000))
    with pytest.raises(InputError, match="kind early_exits is no backbone"):
        export_official(exits, tmp_path / "exits.pth")
    with pytest.raises(InputError, match=r"trained for timesteps \[600, 1000\) alone has no official layout"):
        export_official(staged, tmp_path / "early.pth")
    assert not list(tmp_path.iterdir())


def test_an_imported_network_is_stored_as_any_other(make_stored, tmp_path):
    network = import_checkpoint(saved(tmp_path / "nnet.pth", official_state()), HEADS)
    stored = make_stored(network, data_sha256=None, training={"from_checkpoint": {"file": "nnet.pth"}})
    stored.save(tmp_path / "deep.safetensors")
    loaded = StoredNetwork.load(tmp_path / "deep.safetensors")
    assert (loaded.header, loaded.sha256) == (stored.header, stored.sha256)


def test_a_diffusers_folder_whose_weights_changed_is_refused(make_uvit, make_stored, tmp_path):
    export_diffusers(make_stored(make_uvit()), tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="does not have the sha256 that it states"):
        import_diffusers(tmp_path)
