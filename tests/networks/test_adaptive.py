"""The adaptive denoiser over both kinds of early exits; u_d: uncertainty at exit depth d."""

from collections import Counter
from itertools import product
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from duodiff_pipeline.diffusion.denoiser import Prediction
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver, SolverName
from duodiff_pipeline.networks.adaptive import AdaptiveDenoiser
from duodiff_pipeline.networks.dit import DiT
from duodiff_pipeline.networks.early_exit import EarlyExits, tokens_before_blocks

IMAGES = 24
VARIANTS = [
    ("make_uvit", {}),
    ("make_uvit", {"num_classes": 5}),
    ("make_uvit", {"predicts": "image"}),
    ("make_uvit", {"depth": 1}),
    ("make_uvit", {"num_classes": 5, "predicts": "image", "patch": 2, "channels": 2}),
    ("make_dit", {}),
    ("make_dit", {"num_classes": 5, "predicts": "image", "patch": 2, "channels": 2, "depth": 4}),
]


class Bed:
    """A network with early exits, a batch, and what all L heads and probes say about it."""

    def __init__(self, make_network, make_exits, probe="linear", **changes):
        backbone = make_network(**{"depth": 5, **changes})
        self.exits = make_exits(backbone, probe=probe)
        self.network = self.exits.network(backbone)
        self.depths = self.exits.depths
        config = self.network.config
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(IMAGES, config.channels, 8, 8, generator=generator)
        self.labels = torch.arange(IMAGES) % 5 if config.num_classes else None
        self.timestep = 300.0
        timesteps = torch.full((IMAGES,), self.timestep)
        tokens = tokens_before_blocks(self.network, self.x, timesteps, self.labels)
        self.eps = {d: self.exits.read_out(d, tokens[d], self.x, timesteps) for d in self.depths}
        self.u = {d: self.exits.uncertainty(d, tokens[d]) for d in self.depths}
        self.own_eps = self.network(self.x, timesteps, self.labels)
        self.denoiser = AdaptiveDenoiser(backbone, self.exits, 0.0)

    def threshold(self, share: float) -> float:
        """Midway between two neighbouring uncertainties, so that rounding cannot decide an exit."""
        u = torch.stack(list(self.u.values())).flatten().sort().values if self.u else torch.tensor([0.2, 0.8])
        i = int(share * (len(u) - 1))
        while u[i + 1] - u[i] < 2e-5:
            i += 1
        return float(u[i] + u[i + 1]) / 2

    def pick(self, threshold: float) -> tuple[Tensor, Tensor]:
        """Noise and exit depth from running every layer: of the first d with u_d <= threshold, else of the network."""
        eps, depth = self.own_eps.clone(), torch.full((IMAGES,), self.network.depth)
        for n in range(IMAGES):
            for d in self.depths:
                if self.u[d][n] <= threshold:
                    eps[n], depth[n] = self.eps[d][n], d
                    break
        return eps, depth

    def predict(self, threshold: float, images: slice = slice(None)) -> Prediction:
        self.denoiser.threshold = threshold
        labels = None if self.labels is None else self.labels[images]
        return self.denoiser.predict(self.x[images], self.timestep, labels)


@pytest.fixture(params=product(("make_exits", "make_shared_exits"), VARIANTS), ids=str, scope="module")
def bed(request) -> Bed:
    make_exits, (make_network, changes) = request.param
    return Bed(request.getfixturevalue(make_network), request.getfixturevalue(make_exits), **changes)


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
    assert len(depths) >= min(3, len(bed.depths) + 1)


def count_images(bed: Bed, threshold: float) -> tuple[Counter[str], list[int]]:
    """Images that each part saw in one prediction, and the reported exit depths."""
    bed.predict(threshold)  # the first prediction also counts what modules cost, on copies that keep their hooks
    seen, hooks = Counter(), []
    watched = {f"block {i}": block for i, block in enumerate(bed.network.blocks)}
    watched |= {f"probe {i}": probe for i, probe in enumerate(bed.exits.probes)}
    last = "final_linear" if isinstance(bed.network, DiT) else "decoder_pred"
    watched |= {f"head {i}": getattr(head, last) for i, head in enumerate(getattr(bed.exits, "heads", ()))}
    watched["own head"] = getattr(bed.network, last)
    for name, module in watched.items():
        hooks.append(module.register_forward_hook(lambda _, inputs, __, name=name: seen.update({name: len(inputs[0])})))
    depth = bed.predict(threshold).exit_depth.tolist()
    for hook in hooks:
        hook.remove()
    return seen, depth


def test_blocks_really_executed_are_the_reported_exit_depths(bed):
    first = 0 if isinstance(bed.exits, EarlyExits) else 1  # the depth at which probe 0 is asked
    for threshold in [-1.0, *thresholds(bed), 1.0]:
        seen, depth = count_images(bed, threshold)
        for i in range(bed.network.depth):
            assert seen[f"block {i}"] == sum(d > i for d in depth)
            assert seen[f"probe {i}"] == (sum(d >= i + first for d in depth) if i + first in bed.depths else 0)
        heads = [seen[f"head {i}"] for i in range(bed.network.depth)]
        if isinstance(bed.exits, EarlyExits):
            assert heads == [depth.count(i) for i in range(bed.network.depth)]
            assert seen["own head"] == depth.count(bed.network.depth)
        else:
            assert seen["own head"] == IMAGES  # each image is read out once, wherever it leaves
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


def test_threshold_zero_never_exits_and_is_the_bare_network(bed):
    found = bed.predict(0.0)
    assert set(found.exit_depth.tolist()) == {bed.network.depth}
    assert torch.equal(found.eps, bed.network.predict(bed.x, bed.timestep, bed.labels).eps)
    assert set(found.macs.tolist()) == {bed.network.macs + len(bed.depths) * bed.exits.probe_macs}


def test_threshold_one_exits_at_once(bed):
    found = bed.predict(1.0)
    first = next(iter(bed.depths), bed.network.depth)
    assert set(found.exit_depth.tolist()) == {first}
    torch.testing.assert_close(found.eps, bed.eps.get(first, bed.own_eps), rtol=0, atol=1e-6)


def test_an_image_exits_where_it_does_alone(bed):
    for threshold in thresholds(bed):
        together = bed.predict(threshold)
        for n in range(0, IMAGES, 5):
            alone = bed.predict(threshold, slice(n, n + 1))
            assert int(alone.exit_depth) == int(together.exit_depth[n])
            torch.testing.assert_close(alone.eps[0], together.eps[n], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make_network", ["make_uvit", "make_dit"])
@pytest.mark.parametrize("make", ["make_exits", "make_shared_exits"])
def test_attention_probes_too(make_network, make, request):
    bed = Bed(request.getfixturevalue(make_network), request.getfixturevalue(make), "attention", num_classes=5)
    depths = set()
    for threshold in thresholds(bed):
        expected_eps, expected_depth = bed.pick(threshold)
        found = bed.predict(threshold)
        assert torch.equal(found.exit_depth, expected_depth)
        torch.testing.assert_close(found.eps, expected_eps, rtol=1e-5, atol=1e-5)
        assert int(found.macs.sum()) == counted_macs(bed, threshold)
        depths |= set(expected_depth.tolist())
    assert len(depths) >= 3


def test_an_uncertainty_at_the_threshold_exits(make_uvit, make_exits):
    bed = Bed(make_uvit, make_exits)
    with torch.no_grad():
        for probe in bed.exits.probes:
            probe.linear.weight.zero_()
            probe.linear.bias.zero_()  # every u is exactly one half
    assert set(bed.predict(0.5).exit_depth.tolist()) == {0}
    assert set(bed.predict(0.499).exit_depth.tolist()) == {bed.network.depth}


class Told:
    """Exits after every block of a network, whose uncertainties are told: images by depths 1..L-1."""

    probe_macs = 0

    def __init__(self, network, uncertainties):
        self.own, self.told, self.depths = network, torch.tensor(uncertainties), range(1, network.depth)
        self.images = torch.arange(len(uncertainties))

    def network(self, backbone):
        return backbone

    def uncertainty(self, depth, tokens):
        return self.told[tokens[:, 0, 0].round().long(), depth - 1]

    def read_out(self, depth, tokens, x, timesteps):
        return self.own.read_out(tokens, x, timesteps)


@pytest.mark.parametrize(
    ("patience", "expected"),
    [
        (0, [1, 2, 1, 4, 7, 1]),
        (1, [2, 3, 3, 4, 7, 4]),  # two hits, in a row or not; from the middle block on, one
        (2, [3, 4, 5, 4, 7, 4]),
        (9, [4, 4, 5, 4, 7, 4]),
    ],
)
def test_patience_passes_by_as_many_hits_below_the_middle_block(make_uvit, patience, expected):
    h, m = 0.1, 0.9  # a hit and a miss; L = 7: depths 1 to 3 lie below the middle block, 4 is right after it
    told = [
        [h, h, h, h, h, h],
        [m, h, h, h, h, h],
        [h, m, h, m, h, h],
        [m, m, m, h, m, m],
        [m, m, m, m, m, m],
        [h, m, m, h, h, h],
    ]
    network = make_uvit(depth=7)
    exits = Told(network, told)
    network.embed = lambda x, timesteps, labels: torch.arange(6.0)[:, None, None].expand(6, 5, 16).clone()
    network.run_block = lambda i, tokens, skips: tokens  # tokens stay the number of their image
    denoiser = AdaptiveDenoiser(network, exits, 0.5, patience)
    assert denoiser.predict(torch.zeros(6, 1, 8, 8), 500.0).exit_depth.tolist() == expected


def test_patience_counts_for_every_image_by_itself(bed):
    bed.denoiser.patience = 1
    try:
        for threshold in thresholds(bed):
            together = bed.predict(threshold).exit_depth
            middle = bed.network.depth // 2
            for n in range(IMAGES):
                hits = [d for d in bed.depths if bed.u[d][n] <= threshold]
                leaves = [d for i, d in enumerate(hits) if i >= 1 or d > middle]
                assert int(together[n]) == (leaves[0] if leaves else bed.network.depth)
    finally:
        bed.denoiser.patience = 0


@pytest.mark.parametrize("name", get_args(SolverName))
@pytest.mark.parametrize("kind", ["make_exits", "make_shared_exits"])
def test_every_solver_takes_exits_and_without_any_the_images_are_those_of_the_network(
    name, kind, make_uvit, noise, request
):
    network, solver = make_uvit(depth=5), Solver(name, 4)
    exits = request.getfixturevalue(kind)(network)
    whole = getattr(exits, "tuned", network)  # exits that share an output layer have a network of their own
    adaptive = AdaptiveDenoiser(network, exits, 0.0)
    never, bare = (sample(denoiser, solver, noise, (1, 8, 8), range(4), 0, 4) for denoiser in (adaptive, whole))
    torch.testing.assert_close(never.images, bare.images, rtol=1e-3, atol=1e-3)
    adaptive.threshold = 0.5
    left = sample(adaptive, solver, noise, (1, 8, 8), range(4), 0, 4)
    assert left.trace.timesteps.tolist() == list(solver.grid(noise))
    assert len(set(left.trace.exit_depth.ravel().tolist())) > 1
    assert (left.images - bare.images).abs().max() > 1e-3
