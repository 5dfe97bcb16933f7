"""Early exits; symbols as in the module: u_i uncertainty before block i, L depth."""

from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from duodiff_pipeline.diffusion.denoiser import Prediction
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver, SolverName
from duodiff_pipeline.networks.early_exit import AdaptiveDenoiser, EarlyExits, early_exit_loss, tokens_before_blocks
from duodiff_pipeline.networks.uvit import UViTConfig

IMAGES = 24
VARIANTS = [
    {},
    {"num_classes": 5},
    {"predicts": "image"},
    {"depth": 1},
    {"num_classes": 5, "predicts": "image", "patch": 2, "channels": 2},
]


class Bed:
    """A network with early exits, a batch, and what all L heads and probes say about it."""

    def __init__(self, make_uvit, make_exits, **changes):
        self.network = make_uvit(**{"depth": 5, **changes})
        self.exits = make_exits(self.network)
        config = self.network.config
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(IMAGES, config.channels, 8, 8, generator=generator)
        self.labels = torch.arange(IMAGES) % 5 if config.num_classes else None
        self.timestep = 300.0
        timesteps = torch.full((IMAGES,), self.timestep)
        tokens = tokens_before_blocks(self.network, self.x, timesteps, self.labels)
        self.eps, self.u = self.exits(tokens, self.x, timesteps)
        self.own_eps = self.network(self.x, timesteps, self.labels)
        self.denoiser = AdaptiveDenoiser(self.network, self.exits, 0.0)

    def threshold(self, share: float) -> float:
        """Midway between two neighbouring uncertainties, so that rounding cannot decide an exit."""
        u = self.u.flatten().sort().values
        i = int(share * (len(u) - 1))
        while u[i + 1] - u[i] < 2e-5:
            i += 1
        return float(u[i] + u[i + 1]) / 2

    def pick(self, threshold: float) -> tuple[Tensor, Tensor]:
        """Noise and exit depth from running every layer: of the first i with u_i <= threshold, else of the network."""
        eps, depth = self.own_eps.clone(), torch.full((IMAGES,), self.network.depth)
        for n in range(IMAGES):
            for i in range(self.network.depth):
                if self.u[i, n] <= threshold:
                    eps[n], depth[n] = self.eps[i, n], i
                    break
        return eps, depth

    def predict(self, threshold: float, images: slice = slice(None)) -> Prediction:
        self.denoiser.threshold = threshold
        labels = None if self.labels is None else self.labels[images]
        return self.denoiser.predict(self.x[images], self.timestep, labels)


@pytest.fixture(params=VARIANTS, ids=str, scope="module")
def bed(request, make_uvit, make_exits) -> Bed:
    return Bed(make_uvit, make_exits, **request.param)


def thresholds(bed: Bed) -> list[float]:
    return [bed.threshold(share) for share in (0.02, 0.1, 0.25, 0.5)]


def test_adaptive_denoiser_equals_running_every_layer_and_picking(bed):
    depths = set()
    for threshold in thresholds(bed):
        expected_eps, expected_depth = bed.pick(threshold)
        found = bed.predict(threshold)
        assert torch.equal(found.exit_depth, expected_depth)
        torch.testing.assert_close(found.eps, expected_eps, rtol=1e-5, atol=1e-5)
        depths |= set(expected_depth.tolist())
    assert bed.network.depth in depths
    assert len(depths) >= min(4, bed.network.depth + 1)


def count_images(bed: Bed, threshold: float) -> tuple[Counter[str], list[int]]:
    """Images that each module saw in one prediction, and the reported exit depths."""
    bed.predict(threshold)  # the first prediction also counts what modules cost, on copies that keep their hooks
    seen, hooks = Counter(), []
    watched = {f"block {i}": block for i, block in enumerate(bed.network.blocks)}
    watched |= {f"probe {i}": probe for i, probe in enumerate(bed.exits.probes)}
    watched |= {f"head {i}": head.decoder_pred for i, head in enumerate(bed.exits.heads)}
    watched["own head"] = bed.network.decoder_pred
    for name, module in watched.items():
        hooks.append(module.register_forward_hook(lambda _, inputs, __, name=name: seen.update({name: len(inputs[0])})))
    depth = bed.predict(threshold).exit_depth.tolist()
    for hook in hooks:
        hook.remove()
    return seen, depth


def test_blocks_really_executed_are_the_reported_exit_depths(bed):
    for threshold in [-1.0, *thresholds(bed), 1.0]:
        seen, depth = count_images(bed, threshold)
        for i in range(bed.network.depth):
            assert seen[f"block {i}"] == sum(d > i for d in depth)
            assert seen[f"probe {i}"] == sum(d >= i for d in depth)
            assert seen[f"head {i}"] == sum(d == i for d in depth)
        assert seen["own head"] == sum(d == bed.network.depth for d in depth)
        assert sum(count for name, count in seen.items() if name.startswith("block")) == sum(depth)


def counted_macs(bed: Bed, threshold: float, images: slice = slice(None)) -> int:
    # of PyTorch's attention kernels for the CPU the counter knows only this one
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        bed.predict(threshold, images)
    return counter.get_total_flops() // 2


def test_reported_macs_are_those_of_the_modules_executed(bed):
    for threshold in [-1.0, *thresholds(bed), 1.0]:
        macs = bed.predict(threshold).macs
        assert int(macs.sum()) == counted_macs(bed, threshold)
        for n in range(0, IMAGES, 8):
            assert int(macs[n]) == counted_macs(bed, threshold, slice(n, n + 1))


def test_threshold_zero_never_exits(bed):
    found = bed.predict(0.0)
    assert set(found.exit_depth.tolist()) == {bed.network.depth}
    torch.testing.assert_close(found.eps, bed.own_eps, rtol=0, atol=1e-6)
    assert set(found.macs.tolist()) == {bed.network.macs + sum(bed.exits.probe_macs)}


@pytest.mark.parametrize("name", get_args(SolverName))
def test_every_solver_takes_exits_and_without_any_the_images_are_those_of_the_network(
    name, make_uvit, make_exits, noise
):
    network = make_uvit(depth=5)
    adaptive, solver = AdaptiveDenoiser(network, make_exits(network), 0.0), Solver(name, 4)
    never, bare = (sample(denoiser, solver, noise, (1, 8, 8), range(4), 0, 4) for denoiser in (adaptive, network))
    torch.testing.assert_close(never.images, bare.images, rtol=1e-3, atol=1e-3)
    adaptive.threshold = 0.5
    exits = sample(adaptive, solver, noise, (1, 8, 8), range(4), 0, 4)
    assert exits.trace.timesteps.tolist() == list(solver.grid(noise))
    assert len(set(exits.trace.exit_depth.ravel().tolist())) > 1
    assert (exits.images - bare.images).abs().max() > 1e-3


def test_threshold_one_always_exits_before_the_first_block(bed):
    found = bed.predict(1.0)
    assert set(found.exit_depth.tolist()) == {0}
    torch.testing.assert_close(found.eps, bed.eps[0], rtol=0, atol=1e-6)


def test_an_uncertainty_at_the_threshold_exits(make_uvit, make_exits):
    bed = Bed(make_uvit, make_exits)
    with torch.no_grad():
        for probe in bed.exits.probes:
            probe.linear.weight.zero_()
            probe.linear.bias.zero_()  # every u is exactly one half
    assert set(bed.predict(0.5).exit_depth.tolist()) == {0}
    assert set(bed.predict(0.499).exit_depth.tolist()) == {bed.network.depth}


def test_training_cost_of_heads_and_probes_is_that_of_running_them_all(bed):
    timesteps = torch.full((IMAGES,), bed.timestep)
    tokens = tokens_before_blocks(bed.network, bed.x, timesteps, bed.labels)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        bed.exits(tokens, bed.x, timesteps)
    assert bed.exits.macs * IMAGES == counter.get_total_flops() // 2


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
