"""Early exits as DuoDiff re-implemented them: separate heads and probes on block inputs. L: depth."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from duodiff_pipeline.networks.early_exit import EarlyExits, early_exit_loss, tokens_before_blocks
from duodiff_pipeline.networks.uvit import UViTConfig


@pytest.mark.parametrize("probe", ["linear", "attention"])
def test_training_cost_of_heads_and_probes_is_that_of_running_them_all(make_uvit, make_exits, probe):
    network = make_uvit(num_classes=5, depth=5)
    exits = make_exits(network, probe=probe)
    x, timesteps = torch.randn(7, 1, 8, 8), torch.full((7,), 300.0)
    tokens = tokens_before_blocks(network, x, timesteps, torch.arange(7) % 5)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        exits(tokens, x, timesteps)
    assert exits.macs * 7 == counter.get_total_flops() // 2


def test_running_all_of_them_is_running_each(make_uvit, make_exits):
    network = make_uvit(depth=5)
    exits = make_exits(network)
    x, timesteps = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999])
    tokens = tokens_before_blocks(network, x, timesteps)
    eps, u = exits(tokens, x, timesteps)
    for depth in exits.depths:
        assert torch.equal(eps[depth], exits.read_out(depth, tokens[depth], x, timesteps))
        assert torch.equal(u[depth], exits.uncertainty(depth, tokens[depth]))


def test_cifar_heads_and_probes_have_the_published_sizes():
    config = UViTConfig(image_size=32, channels=3, patch=2, width=512, depth=13, heads=8)
    with torch.device("meta"):
        exits = EarlyExits(config)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (exits.heads[0], exits.heads, exits.probes, exits)]
    assert sizes == [7_264, 94_432, 6_669, 101_101]


@pytest.mark.parametrize("predicts", ["noise", "image"])
def test_heads_start_as_the_network_s_own_output_layers(make_uvit, predicts):
    network = make_uvit(predicts=predicts)
    exits = EarlyExits(network.config)
    exits.init_weights(network, torch.Generator().manual_seed(0))
    x, timesteps = torch.randn(4, 1, 8, 8), torch.tensor([0, 10, 500, 999])
    last = []
    network.norm.register_forward_hook(lambda _, inputs, __: last.append(inputs[0]))
    expected = network(x, timesteps)
    for head in exits.heads:
        torch.testing.assert_close(head(last[0], x, timesteps), expected, rtol=0, atol=1e-6)
    tokens = tokens_before_blocks(network, x, timesteps)
    assert (exits(tokens, x, timesteps)[1] - 0.5).abs().max() < 0.25


def test_initial_probes_are_a_function_of_the_generator(make_uvit):
    def probes(seed: int) -> Tensor:
        exits = EarlyExits(make_uvit().config)
        exits.init_weights(make_uvit(), torch.Generator().manual_seed(seed))
        return torch.stack([probe.linear.weight for probe in exits.probes])

    assert torch.equal(probes(0), probes(0))
    assert not torch.equal(probes(0), probes(1))


def loss_inputs(layers=3, n=4):
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(layers, n, 2, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    u = torch.rand(layers, n, generator=generator, dtype=torch.float64).requires_grad_()
    true = torch.randn(n, 2, 4, 4, generator=generator, dtype=torch.float64)
    return eps, u, true, torch.tensor([1.0, 0.5, 0.1, 2.0], dtype=torch.float64)


def test_loss_is_the_formula_written_out():
    eps, u, true, weight = loss_inputs()
    probes = heads = 0.0
    for i in range(3):
        for n in range(4):
            error = (eps[i, n] - true[n]).detach()
            u_hat = float(error.abs().tanh().sum()) / 32
            probes += (u[i, n].item() - u_hat) ** 2 / 4
            heads += (1 - u[i, n].item()) * float(weight[n]) * float(error.square().sum()) / 32 / 4
    parts = early_exit_loss(eps, u, true, weight)
    assert parts.keys() == {"probes", "heads"}
    assert parts["probes"].item() == pytest.approx(probes, rel=1e-12)
    assert parts["heads"].item() == pytest.approx(heads, rel=1e-12)


def test_targets_and_weights_of_the_loss_carry_no_gradient():
    eps, u, true, weight = loss_inputs()
    sum(early_exit_loss(eps, u, true, weight).values()).backward()
    error = (eps - true).detach()
    u_hat = error.abs().tanh().mean(dim=(2, 3, 4))
    torch.testing.assert_close(u.grad, 2 * (u.detach() - u_hat) / 4)  # nothing from the heads' weights
    factor = (1 - u.detach()) * weight / 4
    torch.testing.assert_close(eps.grad, factor[:, :, None, None, None] * 2 * error / 32)  # nothing from the targets


def test_no_loss_where_heads_are_right_and_probes_know_it():
    _, u, true, weight = loss_inputs()
    parts = early_exit_loss(true.expand(3, -1, -1, -1, -1), torch.zeros_like(u), true, weight)
    assert {name: part.item() for name, part in parts.items()} == {"probes": 0, "heads": 0}


def test_tokens_before_blocks_are_what_the_blocks_get(make_uvit):
    network = make_uvit(depth=5)
    x, timesteps = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999])
    seen = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network(x, timesteps)
    expected = list(seen)
    found = tokens_before_blocks(network, x, timesteps)
    assert len(found) == 5
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_predicted_image_is_turned_to_noise_by_heads_too(make_uvit, make_exits, noise):
    network = make_uvit(predicts="image")
    exits = make_exits(network)
    as_noise = EarlyExits(replace(network.config, predicts="noise"))
    as_noise.load_state_dict(exits.state_dict())
    x, timesteps = torch.randn(3, 1, 8, 8), torch.tensor([5, 500, 990])
    tokens = tokens_before_blocks(network, x, timesteps)
    x0 = as_noise(tokens, x, timesteps)[0].double()
    abar = torch.from_numpy(noise.abar)[timesteps][:, None, None, None]
    expected = (x.double() - abar.sqrt() * x0) / (1 - abar).sqrt()
    torch.testing.assert_close(exits(tokens, x, timesteps)[0].double(), expected, rtol=1e-5, atol=1e-5)
