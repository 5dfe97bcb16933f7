"""U-ViT against the facts of the official implementation and against a forward pass written out in plain algebra."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.uvit import Attention, UViT, UViTConfig, timestep_embedding, unpatchify

CIFAR10 = UViTConfig(image_size=32, channels=3, patch=2, width=512, depth=13, heads=8)
CELEBA = UViTConfig(image_size=64, channels=3, patch=4, width=512, depth=13, heads=8)
IMAGENET64 = UViTConfig(image_size=64, channels=3, patch=4, width=768, depth=17, heads=12, num_classes=1000)
IMAGENET256 = UViTConfig(image_size=32, channels=4, patch=2, width=1024, depth=21, heads=16, num_classes=1001)

# config, depth, parameters, GMACs a call, the same without attention products where published
PUBLISHED = [
    (CIFAR10, 13, 44_255_328, 12.201, 11.322),
    (CIFAR10, 7, 23_775_840, 6.540, 6.067),
    (CIFAR10, 5, 16_949_344, 4.653, 4.315),
    (CIFAR10, 3, 10_122_848, 2.766, 2.563),
    (CELEBA, 13, 44_292_228, 12.211, 11.331),
    (CELEBA, 7, 23_812_740, 6.550, None),
    (CELEBA, 5, 16_986_244, 4.663, None),
    (CELEBA, 3, 10_159_748, 2.776, None),
    (IMAGENET64, 17, 130_940_292, 35.236, 33.498),
    (IMAGENET64, 3, 23_479_428, 6.109, 5.802),
    (IMAGENET256, 21, 286_763_172, 76.456, 73.593),
    (IMAGENET256, 3, 41_202_852, 10.698, 10.289),
]
CASES = [pytest.param(*case, id=f"{case[0].image_size}x{case[0].width}-{case[1]}") for case in PUBLISHED]


def on_meta(config: UViTConfig) -> UViT:
    with torch.device("meta"):
        return UViT(config)


@pytest.mark.parametrize(("config", "depth", "parameters", "gmacs", "gmacs_without_attention"), CASES)
def test_parameters_and_macs_are_the_published_ones(config, depth, parameters, gmacs, gmacs_without_attention):
    network = on_meta(replace(config, depth=depth))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.macs / 1e9 == pytest.approx(gmacs, rel=1e-3)
    if gmacs_without_attention is not None:
        tokens = config.extra_tokens + config.patches
        products = 2 * depth * tokens**2 * config.width  # QK^T and AV of every block
        assert (network.macs - products) / 1e9 == pytest.approx(gmacs_without_attention, rel=1e-3)


def expected_state(config: UViTConfig) -> dict[str, tuple[int, ...]]:
    d, c, p, half = config.width, config.channels, config.patch, config.depth // 2
    tokens = (config.image_size // p) ** 2 + (2 if config.num_classes else 1)
    shapes = {"pos_embed": (1, tokens, d), "patch_embed.proj.weight": (d, c, p, p), "patch_embed.proj.bias": (d,)}
    if config.num_classes:
        shapes["label_emb.weight"] = (config.num_classes, d)
    ins, outs = [f"in_blocks.{i}" for i in range(half)], [f"out_blocks.{i}" for i in range(half)]
    for block in [*ins, "mid_block", *outs]:
        shapes |= {f"{block}.{norm}.{kind}": (d,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        shapes |= {f"{block}.attn.qkv.weight": (3 * d, d)}
        shapes |= {f"{block}.attn.proj.weight": (d, d), f"{block}.attn.proj.bias": (d,)}
        shapes |= {f"{block}.mlp.fc1.weight": (4 * d, d), f"{block}.mlp.fc1.bias": (4 * d,)}
        shapes |= {f"{block}.mlp.fc2.weight": (d, 4 * d), f"{block}.mlp.fc2.bias": (d,)}
    for block in outs:
        shapes |= {f"{block}.skip_linear.weight": (d, 2 * d), f"{block}.skip_linear.bias": (d,)}
    shapes |= {"norm.weight": (d,), "norm.bias": (d,)}
    shapes |= {"decoder_pred.weight": (p * p * c, d), "decoder_pred.bias": (p * p * c,)}
    return shapes | {"final_layer.weight": (c, c, 3, 3), "final_layer.bias": (c,)}


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        (CIFAR10, 164),
        (CELEBA, 164),
        (IMAGENET64, 213),
        (IMAGENET256, 261),
        (replace(CIFAR10, depth=3), 44),
    ],
)
def test_state_has_the_keys_and_shapes_of_the_official_checkpoints(config, tensors):
    found = {name: tuple(tensor.shape) for name, tensor in on_meta(config).state_dict().items()}
    assert len(found) == tensors
    assert found == expected_state(config)


def test_official_shapes_that_are_easily_mistaken():
    state = {name: tuple(tensor.shape) for name, tensor in on_meta(CIFAR10).state_dict().items()}
    assert state["pos_embed"] == (1, 257, 512)
    assert state["in_blocks.5.attn.qkv.weight"] == (1536, 512)
    assert state["out_blocks.0.skip_linear.weight"] == (512, 1024)
    assert state["decoder_pred.weight"] == (12, 512)
    latent = {name: tuple(tensor.shape) for name, tensor in on_meta(IMAGENET256).state_dict().items()}
    assert latent["pos_embed"] == (1, 258, 1024)
    assert latent["label_emb.weight"] == (1001, 1024)
    assert latent["final_layer.weight"] == (4, 4, 3, 3)


def test_time_embedding_is_cosines_then_sines():
    timesteps = torch.tensor([0.0, 1.0, 250.5, 999.0])
    angles = timesteps.double()[:, None] * 10000.0 ** (-torch.arange(4).double() / 4)
    expected = torch.cat([angles.cos(), angles.sin()], dim=1)
    torch.testing.assert_close(timestep_embedding(timesteps, 8).double(), expected, rtol=0, atol=1e-4)
    assert timestep_embedding(timesteps[:1], 8).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


def test_time_embedding_of_odd_width_ends_with_zero():
    timesteps = torch.tensor([3.0, 700.0])
    odd = timestep_embedding(timesteps, 9)
    assert torch.equal(odd[:, :8], timestep_embedding(timesteps, 8))
    assert odd[:, 8].tolist() == [0, 0]


def test_label_token_comes_first_then_time_then_patches(make_uvit):
    network = make_uvit(num_classes=5)
    x, timesteps, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999]), torch.tensor([4, 0, 2])
    tokens = network.embed(x, timesteps, labels) - network.pos_embed
    torch.testing.assert_close(tokens[:, 0], network.label_emb.weight[labels])
    torch.testing.assert_close(tokens[:, 1], timestep_embedding(timesteps, 16))
    assert tokens.shape == (3, 2 + 4, 16)
    top_right = torch.einsum("nchw,dchw->nd", x[:, :, :4, 4:], network.patch_embed.proj.weight)
    torch.testing.assert_close(tokens[:, 3], top_right + network.patch_embed.proj.bias, rtol=1e-4, atol=1e-5)


def test_timestep_scale_multiplies_what_is_embedded(make_uvit):
    network, x = make_uvit(timestep_scale=0.001), torch.randn(2, 1, 8, 8)
    time_token = network.embed(x, torch.tensor([500, 20]))[:, 0] - network.pos_embed[:, 0]
    torch.testing.assert_close(time_token, timestep_embedding(torch.tensor([0.5, 0.02]), 16))


def test_unpatchify_puts_row_then_column_then_channel_inside_a_token():
    p, c, side = 2, 3, 4
    tokens = torch.arange(2 * side * side * p * p * c).view(2, side * side, p * p * c)
    images = unpatchify(tokens, p, c)
    assert images.shape == (2, c, side * p, side * p)
    for n, channel, y, x in np.ndindex(*images.shape):
        token, inside = y // p * side + x // p, (y % p * p + x % p) * c + channel
        assert images[n, channel, y, x] == tokens[n, token, inside]


def test_attention_equals_that_of_pytorch_with_the_same_fused_weights():
    attention, x = Attention(16, heads=4), torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0))
    expected, _ = F.multi_head_attention_forward(
        *(x.transpose(0, 1),) * 3,
        embed_dim_to_check=16,
        num_heads=4,
        in_proj_weight=attention.qkv.weight,
        in_proj_bias=None,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.proj.weight,
        out_proj_bias=attention.proj.bias,
    )
    torch.testing.assert_close(attention(x), expected.transpose(0, 1), rtol=0, atol=1e-6)


def layer_norm(state: dict[str, Tensor], name: str, h: Tensor) -> Tensor:
    centred = h - h.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * state[f"{name}.weight"]
        + state[f"{name}.bias"]
    )


def reference_block(state: dict[str, Tensor], name: str, heads: int, h: Tensor) -> Tensor:
    d = h.shape[-1]
    size = d // heads
    x = layer_norm(state, f"{name}.norm1", h)
    qkv = state[f"{name}.attn.qkv.weight"]
    q, k, v = x @ qkv[:d].T, x @ qkv[d : 2 * d].T, x @ qkv[2 * d :].T
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = torch.einsum("nid,njd->nij", q[..., part], k[..., part]) / math.sqrt(size)
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        mixed.append(torch.einsum("nij,njd->nid", weights, v[..., part]))
    h = h + torch.cat(mixed, -1) @ state[f"{name}.attn.proj.weight"].T + state[f"{name}.attn.proj.bias"]
    x = layer_norm(state, f"{name}.norm2", h) @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"]
    x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return h + x @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"]


def reference_forward(
    network: UViT, x: Tensor, timesteps: Tensor, labels: Tensor | None, newest_skip_first: bool = True
) -> Tensor:
    """The forward pass of duodiff.md section 1.1, from the state dict alone, in float64."""
    c = network.config
    state = {name: tensor.double() for name, tensor in network.state_dict().items()}
    n, p, side = len(x), c.patch, c.image_size // c.patch
    x = x.double()
    patches = [
        torch.einsum(
            "nchw,dchw->nd", x[:, :, i * p : (i + 1) * p, j * p : (j + 1) * p], state["patch_embed.proj.weight"]
        )
        + state["patch_embed.proj.bias"]
        for i in range(side)
        for j in range(side)
    ]
    half = c.width // 2
    angles = timesteps[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)  # float32 there too
    tokens = [torch.cat([angles.cos(), angles.sin()], 1).double(), *patches]
    if labels is not None:
        tokens.insert(0, state["label_emb.weight"][labels])
    h = torch.stack(tokens, 1) + state["pos_embed"]
    skips = []
    for i in range(c.depth // 2):
        h = reference_block(state, f"in_blocks.{i}", c.heads, h)
        skips.append(h)
    h = reference_block(state, "mid_block", c.heads, h)
    for i, skip in enumerate(reversed(skips) if newest_skip_first else skips):
        name = f"out_blocks.{i}"
        h = torch.cat([h, skip], -1) @ state[f"{name}.skip_linear.weight"].T + state[f"{name}.skip_linear.bias"]
        h = reference_block(state, name, c.heads, h)
    pixels = layer_norm(state, "norm", h) @ state["decoder_pred.weight"].T + state["decoder_pred.bias"]
    image = torch.zeros(n, c.channels, c.image_size, c.image_size, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            token = pixels[:, (1 if labels is None else 2) + i * side + j].reshape(n, p, p, c.channels)
            image[:, :, i * p : (i + 1) * p, j * p : (j + 1) * p] = token.permute(0, 3, 1, 2)
    padded = torch.zeros(n, c.channels, c.image_size + 2, c.image_size + 2, dtype=torch.float64)
    padded[:, :, 1:-1, 1:-1] = image
    out = state["final_layer.bias"][:, None, None].expand_as(image).clone()
    for dy in range(3):
        for dx in range(3):
            window = padded[:, :, dy : dy + c.image_size, dx : dx + c.image_size]
            out += torch.einsum("nchw,oc->nohw", window, state["final_layer.weight"][:, :, dy, dx])
    return out


@pytest.mark.parametrize("num_classes", [0, 5])
@pytest.mark.parametrize(("depth", "channels", "patch", "heads"), [(1, 1, 4, 1), (3, 1, 4, 2), (7, 3, 2, 4)])
def test_forward_equals_the_plain_algebra(make_uvit, num_classes, depth, channels, patch, heads):
    network = make_uvit(depth=depth, channels=channels, patch=patch, heads=heads, num_classes=num_classes)
    x = torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    timesteps, labels = torch.tensor([0, 3, 500, 999]), torch.tensor([0, 4, 2, 2]) if num_classes else None
    expected = reference_forward(network, x, timesteps, labels)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x, timesteps, labels).double(), expected, rtol=0, atol=1e-5)


def test_first_out_block_gets_the_skip_of_the_last_in_block(make_uvit):
    network, x, timesteps = make_uvit(depth=5), torch.randn(2, 1, 8, 8), torch.tensor([10, 20])
    wrong = reference_forward(network, x, timesteps, None, newest_skip_first=False)
    assert (network(x, timesteps).double() - wrong).abs().max() > 1e-2


def test_images_of_a_batch_do_not_see_each_other(make_uvit):
    network = make_uvit()
    x, timesteps = torch.randn(5, 1, 8, 8), torch.tensor([0, 100, 500, 900, 999])
    alone = torch.cat([network(x[i : i + 1], timesteps[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(network(x, timesteps), alone, rtol=0, atol=1e-5)


def test_a_conditional_network_refuses_to_go_without_labels(make_uvit):
    with pytest.raises(InputError, match="5 classes"):
        make_uvit(num_classes=5).predict(torch.zeros(2, 1, 8, 8), 500)


def test_an_unconditional_network_refuses_labels(make_uvit):
    with pytest.raises(InputError, match="0 classes"):
        make_uvit().predict(torch.zeros(2, 1, 8, 8), 500, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"patch": 5}, "patch 5 does not divide the image size 32"),
        ({"heads": 7}, "heads 7 does not divide the width 512"),
        ({"depth": 12}, "depth 12 is even"),
        ({"depth": 0}, "depth 0 is even"),
        ({"null_class": True}, "0 label embeddings are too few for a null class"),
    ],
)
def test_a_config_that_fits_no_network_is_refused(change, reason):
    with pytest.raises(InputError, match=reason):
        replace(CIFAR10, **change)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_noise_follows_from_a_predicted_image_by_the_definition_of_x_n(make_uvit, noise, kind):
    schedule = replace(noise, kind=kind)
    image_network = make_uvit(predicts="image", noise=schedule)
    noise_network = make_uvit()
    noise_network.load_state_dict(image_network.state_dict())
    x, timesteps = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3)), torch.tensor([0, 10, 500, 990])
    x0 = noise_network(x, timesteps).double()  # the same last layer, read as an image
    abar = torch.from_numpy(schedule.abar)[timesteps][:, None, None, None]
    expected = (x.double() - abar.sqrt() * x0) / (1 - abar).sqrt()
    found = image_network(x, timesteps).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(abar.sqrt() * x0 + (1 - abar).sqrt() * found, x.double(), rtol=0, atol=1e-5)


def test_initial_weights_are_a_function_of_the_generator_alone():
    def weights(seed: int, global_seed: int) -> dict[str, Tensor]:
        torch.manual_seed(global_seed)
        network = UViT(UViTConfig(image_size=8, channels=1, patch=4, width=16, depth=3, heads=2, num_classes=3))
        state = torch.get_rng_state()
        network.init_weights(torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), state)
        return network.state_dict()

    first, again, other = weights(0, 0), weights(0, 1), weights(1, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if not name.endswith("bias") and "norm" not in name]
    assert len(drawn) == 1 + 1 + 1 + 3 * 4 + 1 + 1 + 1  # positions, patches, labels, blocks, skip, two output layers
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_initial_weights_are_small_normal_matrices_and_neutral_norms():
    network = UViT(UViTConfig(image_size=8, channels=3, patch=2, width=64, depth=3, heads=2))
    network.init_weights(torch.Generator().manual_seed(0))
    for name, tensor in network.state_dict().items():
        if name.endswith("bias"):
            assert not tensor.any()
        elif "norm" in name:
            assert (tensor == 1).all()
        elif tensor.dim() == 4:
            bound = 1 / math.sqrt(tensor[0].numel())  # PyTorch's own for convolutions
            assert 0.8 * bound < tensor.abs().max() <= bound
        else:
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("num_classes", [0, 5])
@pytest.mark.parametrize("predicts", ["noise", "image"])
def test_predict_is_forward_at_one_timestep_with_its_cost(make_uvit, num_classes, predicts):
    network = make_uvit(depth=5, num_classes=num_classes, predicts=predicts)
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 4, 2]) if num_classes else None
    for timestep in (999.0, 400.5):
        expected = network(x, torch.full((3,), timestep), labels)
        found = network.predict(x, timestep, labels)
        assert torch.equal(found.eps, expected)
        assert found.exit_depth.tolist() == [5, 5, 5]
        # of PyTorch's attention kernels for the CPU the counter knows only this one
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network.predict(x, timestep, labels)
        assert found.macs.tolist() == [counter.get_total_flops() // 2 // 3] * 3
        assert found.stage == 0


def test_the_class_for_no_label_comes_after_those_of_images():
    without, with_null = replace(CIFAR10, num_classes=10), replace(CIFAR10, num_classes=11, null_class=True)
    assert (CIFAR10.classes, CIFAR10.null_label) == (0, None)
    assert (without.classes, without.null_label) == (10, None)
    assert (with_null.classes, with_null.null_label) == (10, 10)
