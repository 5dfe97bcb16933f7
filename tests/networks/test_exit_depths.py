"""Fewer blocks than there are: bit for bit the network where all run, by formula where some are dropped."""

from dataclasses import replace

import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.dit import DiT, DiTConfig
from duodiff_pipeline.networks.uvit import UViT, UViTConfig

KINDS = ("uvit", "dit")
X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TIMESTEPS = torch.tensor([0, 100, 300, 500, 700, 999])


def make(kind: str, depth: int = 5, **changes) -> UViT | DiT:
    config = {"uvit": UViTConfig, "dit": DiTConfig}[kind](8, 1, patch=4, width=16, depth=depth, heads=2, **changes)
    network = {"uvit": UViT, "dit": DiT}[kind](config)
    generator = torch.Generator().manual_seed(depth)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return network


def seen_by_blocks(network) -> list[int]:
    """Filled while the network runs: how many images the attention of each block sees, in order."""
    seen = []
    for block in network.blocks:
        block.attn.register_forward_hook(lambda *arguments: seen.append(len(arguments[1][0])))
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_all_blocks_are_the_bare_network_bit_for_bit(kind):
    network = make(kind)
    whole = network(X, TIMESTEPS)
    assert torch.equal(network.part("5")(X, TIMESTEPS), whole)
    assert torch.equal(network.forward_to(X, TIMESTEPS, torch.full((6,), 5)), whole)
    assert network.part("5").macs == network.macs


def test_a_dropped_out_block_only_merges_its_skip():
    network = make("uvit")
    tokens = network.embed(X, TIMESTEPS)
    first = network.in_blocks[0](tokens)
    second = network.in_blocks[1](first)
    middle = network.mid_block(second)

    def merged(block, stream, skip):
        return block.skip_linear(torch.cat([stream, skip], dim=-1))

    three = merged(network.out_blocks[1], merged(network.out_blocks[0], middle, second), first)
    four_outer = merged(network.out_blocks[1], network.out_blocks[0](middle, second), first)
    four_inner = network.out_blocks[1](merged(network.out_blocks[0], middle, second), first)
    for part, order, stream in (("3", "outer", three), ("4", "outer", four_outer), ("4", "inner", four_inner)):
        network.config = replace(network.config, dropped_first=order)
        assert torch.equal(network.part(part)(X, TIMESTEPS), network.read_out(stream, X, TIMESTEPS)), (part, order)


def test_a_dit_leaves_after_a_prefix_of_its_blocks():
    deep, short = make("dit"), make("dit", depth=2)
    kept = {name: tensor for name, tensor in deep.state_dict().items() if name in short.state_dict()}
    short.load_state_dict(kept)
    assert torch.equal(deep.part("2")(X, TIMESTEPS), short(X, TIMESTEPS))
    assert deep.part("2").macs == short.macs


@pytest.mark.parametrize(("kind", "order"), [("uvit", "outer"), ("uvit", "inner"), ("dit", None)])
def test_a_shrinking_batch_gives_what_running_everything_gives(kind, order):
    """Predictions, loss and gradients, against the whole batch at every depth, of which each image takes its own."""
    network = make(kind, depth=7, **({"dropped_first": order} if order else {})).double()
    x, eps = X.double(), torch.randn(X.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    depths = torch.tensor([5, 7, 4, 5, 6, 4])
    everywhere = {depth: network.part(str(depth))(x, TIMESTEPS) for depth in (4, 5, 6, 7)}
    expected = torch.stack([everywhere[int(depth)][i] for i, depth in enumerate(depths)])
    loss = (expected - eps).square().mean()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    seen = seen_by_blocks(network)
    found = network.forward_to(x, TIMESTEPS, depths)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    own = (found - eps).square().mean()
    assert float(own) == pytest.approx(float(loss), rel=1e-6)
    own.backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-6, atol=1e-9, msg=name)
    assert seen == [6, 6, 6, 6, *([1, 2, 4] if order == "inner" else [4, 2, 1])]


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_image_saves_is_its_dropped_blocks(kind):
    network = make(kind, depth=7)
    s, d = (5, 16) if kind == "uvit" else (4, 16)
    block = s * (4 * d * d + 8 * d * d) + 2 * s * s * d + (6 * d * d if kind == "dit" else 0)
    for depth in network.exit_depths:
        part = network.part(str(depth))
        assert part.macs == network.macs - (7 - depth) * block
        prediction = part.predict(X, 300.0)
        assert prediction.macs.tolist() == [part.macs] * 6
        assert prediction.exit_depth.tolist() == [depth] * 6
        assert torch.equal(prediction.eps, part(X, torch.full((6,), 300.0)))


@pytest.mark.parametrize(("kind", "there_are"), [("uvit", "3, 4, 5"), ("dit", "1, 2, 3, 4, 5")])
@pytest.mark.parametrize("name", ["0", "6", "05", "half", ""])
def test_a_part_that_is_not_there_is_refused_with_those_that_are(kind, there_are, name):
    with pytest.raises(InputError, match=f"there is no part '{name}' of a network of 5 blocks; there are {there_are}$"):
        make(kind).part(name)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_sorted_with_their_images(kind):
    network = make(kind, num_classes=3)
    labels, depths = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([3, 5, 4, 5, 3, 4])
    found = network.forward_to(X, TIMESTEPS, depths, labels)
    for depth in (3, 4, 5):
        whole = network.part(str(depth))(X, TIMESTEPS, labels)
        torch.testing.assert_close(found[depths == depth], whole[depths == depth])
