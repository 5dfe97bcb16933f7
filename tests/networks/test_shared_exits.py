"""Early exits as AdaDiff's authors have them: one head, that of the network, on block outputs. L: depth."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from duodiff_pipeline.networks.early_exit import tokens_before_blocks
from duodiff_pipeline.networks.shared_exits import SharedExits, shared_exit_loss


@pytest.mark.parametrize("probe", ["linear", "attention"])
def test_every_block_is_read_out_by_the_network_s_own_layers(make_uvit, make_shared_exits, probe):
    network = make_uvit(depth=5, num_classes=3)
    exits = make_shared_exits(network, probe=probe)
    x, timesteps, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 10, 500, 999]), torch.tensor([0, 1, 2, 0])
    eps, confidence = exits(x, timesteps, labels)
    tokens = tokens_before_blocks(exits.tuned, x, timesteps, labels)
    assert eps.shape == (5, 4, 1, 8, 8)
    assert confidence.shape == ((5, 4, 1, 8, 8) if probe == "linear" else (5, 4, 1, 1, 1))
    assert exits.depths == range(1, 5)
    for depth in exits.depths:  # the output of block `depth` is the input of the next
        assert torch.equal(eps[depth - 1], exits.tuned.read_out(tokens[depth], x, timesteps))
        assert torch.equal(1 - confidence[depth - 1].mean(dim=(1, 2, 3)), exits.uncertainty(depth, tokens[depth]))
    assert torch.equal(eps[-1], exits.tuned(x, timesteps, labels))


def test_they_start_as_a_copy_that_leaves_the_network_alone(make_uvit):
    network = make_uvit()
    exits = SharedExits(network.config)
    exits.init_weights(network, torch.Generator().manual_seed(0))
    x, timesteps = torch.randn(2, 1, 8, 8), torch.tensor([3, 900])
    assert torch.equal(exits.tuned(x, timesteps), network(x, timesteps))
    assert all(p.requires_grad for p in exits.parameters())
    assert not any(p.data_ptr() == q.data_ptr() for p in exits.parameters() for q in network.parameters())


@pytest.mark.parametrize("probe", ["linear", "attention"])
def test_training_cost_is_that_of_running_them_all(make_uvit, make_shared_exits, probe):
    exits = make_shared_exits(make_uvit(depth=5), probe=probe)
    x, timesteps = torch.randn(7, 1, 8, 8), torch.full((7,), 300.0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        exits(x, timesteps)
    assert exits.macs * 7 == counter.get_total_flops() // 2


def loss_inputs(pixels=(2, 4, 4), layers=3, n=4):
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(layers, n, 2, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    confidence = torch.rand(layers, n, *pixels, generator=generator, dtype=torch.float64).requires_grad_()
    true = torch.randn(n, 2, 4, 4, generator=generator, dtype=torch.float64)
    return eps, confidence, true, torch.tensor([1.0, 0.5, 0.1, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("pixels", [(2, 4, 4), (1, 1, 1)])
def test_loss_is_the_formula_written_out(pixels):
    eps, confidence, true, weight = loss_inputs(pixels)
    mse = [[float(weight[n] * (eps[i, n] - true[n]).square().sum()) / 32 for n in range(4)] for i in range(3)]
    mean_confidence = [float(confidence[i].mean()) for i in range(3)]
    probes = 0.0
    for i in range(3):
        for n in range(4):
            for error, said in zip(
                (eps[i, n] - true[n]).flatten().tolist(),
                confidence[i, n].expand(2, 4, 4).flatten().tolist(),
                strict=True,
            ):
                probes += (said - (1 - abs(torch.tensor(error).tanh().item()))) ** 2 / (3 * 4 * 32)
    layers = sum(mean_confidence[i] / sum(mean_confidence) * sum(mse[i]) / 4 for i in range(3))
    parts = shared_exit_loss(eps, confidence, true, weight)
    assert parts.keys() == {"network", "probes", "layers"}
    assert parts["network"].item() == pytest.approx(sum(mse[2]) / 4, rel=1e-12)
    assert parts["probes"].item() == pytest.approx(probes, rel=1e-6)
    assert parts["layers"].item() == pytest.approx(layers, rel=1e-12)


def test_targets_carry_no_gradient_but_the_weights_of_layers_do():
    eps, confidence, true, weight = loss_inputs()
    shared_exit_loss(eps, confidence, true, weight)["probes"].backward()
    assert eps.grad is None
    confidence.grad = None
    shared_exit_loss(eps, confidence, true, weight)["layers"].backward()
    mse = ((eps - true).square().mean(dim=(2, 3, 4)) * weight).mean(dim=1).detach()
    c = confidence.detach().mean(dim=(1, 2, 3, 4))
    expected = (mse - (c / c.sum()) @ mse) / c.sum() / confidence[0].numel()
    torch.testing.assert_close(confidence.grad, expected[:, None, None, None, None].expand_as(confidence))


def test_what_probes_learn_leaves_the_network_alone(make_uvit):
    exits = SharedExits(make_uvit(depth=5).config)
    exits.init_weights(make_uvit(depth=5), torch.Generator().manual_seed(0))
    x, true = torch.randn(2, 2, 1, 8, 8).unbind(0)
    eps, confidence = exits(x, torch.tensor([3, 900]))
    shared_exit_loss(eps, confidence, true, torch.ones(2))["probes"].backward()
    assert all(p.grad is None for p in exits.tuned.parameters())
    assert all(p.grad is not None for p in exits.probes.parameters())
