"""Classifier-free guidance: the formula, what it costs, and that labels reach the network."""

import pytest
import torch

from duodiff_pipeline.diffusion.denoiser import Prediction, classes_of
from duodiff_pipeline.diffusion.guidance import GuidedDenoiser
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sampling import image_labels, sample
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.adaptive import AdaptiveDenoiser
from duodiff_pipeline.networks.staged import StagedDenoiser
from duodiff_pipeline.networks.uvit import UViT

NOISE = NoiseSchedule()
X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0])
NULL = torch.full_like(LABELS, 4)


@pytest.fixture
def make_conditional(make_uvit):
    """Four classes and one for none, told apart by far."""

    def make(seed: int = 0, **changes) -> UViT:
        network = make_uvit(seed, num_classes=5, null_class=True, **changes)
        network.label_emb.weight *= 10
        for block in network.blocks:
            block.norm1.weight += 1  # so that tokens attend to the label
        return network

    return make


@pytest.fixture
def network(make_conditional) -> UViT:
    return make_conditional()


class Counted:
    """Notes the labels of every call."""

    def __init__(self, network) -> None:
        self.network, self.classes, self.calls = network, network.classes, []

    def predict(self, x, timestep, labels=None) -> Prediction:
        self.calls.append(labels.tolist())
        return self.network.predict(x, timestep, labels)


@pytest.mark.parametrize("scale", [0.5, 1.4, 3.0])
def test_guidance_leads_from_the_prediction_for_none_through_that_for_the_label(network, scale):
    label, null = (network.predict(X, 600.0, labels).eps.double() for labels in (LABELS, NULL))
    assert (label - null).abs().max() > 0.05
    w = scale - 1
    expected = (1 + w) * label - w * null  # Ho & Salimans, eq. 6
    guided = GuidedDenoiser(network, 4, scale).predict(X, 600.0, LABELS)
    torch.testing.assert_close(guided.eps.double(), expected, rtol=0, atol=1e-5)


def test_scale_1_is_the_conditional_network_and_scale_0_the_unconditional_one_bit_for_bit(network):
    for scale, labels in ((1.0, LABELS), (0.0, NULL)):
        counted = Counted(network)
        guided, bare = GuidedDenoiser(counted, 4, scale).predict(X, 600.0, LABELS), network.predict(X, 600.0, labels)
        assert torch.equal(guided.eps, bare.eps)
        assert guided.macs.tolist() == bare.macs.tolist() == [network.macs] * 5
        assert counted.calls == [labels.tolist()]


def test_any_other_scale_evaluates_twice_in_one_batch_and_counts_both(network):
    counted = Counted(network)
    guided = GuidedDenoiser(counted, 4, 2.0).predict(X, 600.0, LABELS)
    assert counted.calls == [[*LABELS.tolist(), *NULL.tolist()]]
    assert guided.eps.shape == X.shape
    assert guided.macs.tolist() == [2 * network.macs] * 5
    assert guided.exit_depth.tolist() == [network.depth] * 5


def test_guidance_of_what_takes_no_labels_is_refused(make_uvit, network):
    with pytest.raises(InputError, match="needs a class-conditional network"):
        GuidedDenoiser(make_uvit(), 4, 2.0)
    with pytest.raises(InputError, match="scale -1 is negative"):
        GuidedDenoiser(network, 4, -1.0)
    with pytest.raises(InputError, match="a guided network needs labels"):
        GuidedDenoiser(network, 4, 2.0).predict(X, 600.0)


@pytest.mark.parametrize(("classes", "start", "n"), [(10, 0, 20), (10, 7, 33), (3, 5, 4)])
def test_labels_are_spread_evenly_over_any_run_of_images(classes, start, n):
    labels = image_labels(range(start, start + n), classes)
    counts = torch.bincount(labels, minlength=classes)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1
    assert torch.equal(labels, image_labels(range(start + n), classes)[start:])


def test_a_sampler_gives_every_image_its_label_in_every_evaluation(network):
    counted = Counted(network)
    samples = sample(counted, Solver("ddim", 3), NOISE, (1, 8, 8), range(2, 7), 0, 4)
    assert counted.calls == [[0, 1, 2, 3]] * 6  # two micro-batches of four, images 0..7
    assert samples.images.shape == (5, 1, 8, 8)


def test_every_stage_has_a_scale_of_its_own(make_conditional):
    networks = {name: Counted(make_conditional(i)) for i, name in enumerate("abc")}
    scales = {"a": 0.0, "b": 1.0, "c": 2.5}
    solver = Solver("ddim", 10)
    schedule = StageSchedule.from_counts([2, 3, 5], solver.grid(NOISE), "abc", NOISE)
    staged = StagedDenoiser(schedule, {name: GuidedDenoiser(networks[name], 4, s) for name, s in scales.items()})
    assert classes_of(staged) == 4
    trace = sample(staged, solver, NOISE, (1, 8, 8), range(4), 0, 4).trace
    assert networks["a"].calls == [[4, 4, 4, 4]] * 2
    assert networks["b"].calls == [[0, 1, 2, 3]] * 3
    assert networks["c"].calls == [[0, 1, 2, 3, 4, 4, 4, 4]] * 5
    macs = networks["a"].network.macs
    assert trace.macs.tolist() == [[macs] * 4] * 5 + [[2 * macs] * 4] * 5
    assert trace.stages.tolist() == [0] * 2 + [1] * 3 + [2] * 5


def test_stages_of_other_classes_do_not_go_together(make_uvit, network):
    solver = Solver("ddim", 10)
    schedule = StageSchedule.from_switch(5, solver.grid(NOISE), ("shallow", "deep"), NOISE)
    with pytest.raises(InputError, match=r"different numbers of classes: {'shallow': 0, 'deep': 4}"):
        StagedDenoiser(schedule, {"shallow": make_uvit(), "deep": network})


def test_early_exits_are_guided_each_prediction_leaving_at_a_depth_of_its_own(make_conditional, make_exits):
    network = make_conditional(depth=5)
    adaptive = AdaptiveDenoiser(network, make_exits(network), 0.4)
    label, null = (adaptive.predict(X, 600.0, labels) for labels in (LABELS, NULL))
    assert label.exit_depth.tolist() != null.exit_depth.tolist()
    guided = GuidedDenoiser(adaptive, 4, 2.0).predict(X, 600.0, LABELS)
    torch.testing.assert_close(guided.eps, null.eps + 2 * (label.eps - null.eps), rtol=0, atol=1e-4)
    assert torch.equal(guided.exit_depth, torch.maximum(label.exit_depth, null.exit_depth))
    assert torch.equal(guided.macs, label.macs + null.macs)
