"""Training one decoder at a time: what rests really rests, and every average counts its own updates."""

from dataclasses import replace

import pytest
import torch
from test_fit import KilledError, Observer, Recorded, assert_same_training, optimisation

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.unet import UNet, UNetConfig
from duodiff_pipeline.training.averaging import OwnUpdatesAverage
from duodiff_pipeline.training.batches import StageBatches
from duodiff_pipeline.training.fit import Hardware, fit
from duodiff_pipeline.training.modules import NoisePrediction, StageNoisePrediction

EDGES, STEPS = (600.0, 300.0), 20
PIXELS = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = ImagePack(PIXELS, torch.zeros(30, dtype=torch.int64), "", "train", "")
CONFIG = UNetConfig(8, 1, 8, (4, 8, 8), (1, 2), 1, (4,))


class RecordedStages(Recorded, StageNoisePrediction):
    """Also notes every part's weights and averages after every step."""

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.parts.append({name: p.detach().clone() for name, p in self.raw.named_parameters()})
        self.part_averages.append({name: p.detach().clone() for name, p in self.ema.module.named_parameters()})

    def on_fit_start(self):
        super().on_fit_start()
        self.parts, self.part_averages = [], []


def unet(config: UNetConfig = CONFIG) -> UNet:
    """With nothing at zero, so that all of a stage learns from its first step on."""
    network, generator = UNet(config), torch.Generator().manual_seed(1)
    network.init_weights(generator)
    for parameter in network.parameters():
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return network


def training(config: UNetConfig = CONFIG, edges=EDGES) -> RecordedStages:
    return RecordedStages(unet(config), edges, config.noise, optimisation(steps=STEPS))


def batches(edges=EDGES) -> StageBatches:
    return StageBatches(IMAGES, edges, 1000, "uniform", 4, STEPS, seed=3)


def run(module, folder, keep=None, edges=EDGES):
    return fit(module, batches(edges), Hardware("cpu", 1, "32-true"), folder, 5, Observer(), 50, None, keep)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training, its initial weights, and the stage of every step."""
    module = training()
    initial = {name: p.detach().clone() for name, p in module.raw.named_parameters()}
    run(module, tmp_path_factory.mktemp("stages"))
    stages = [batches().stage(step) for step in range(STEPS)]
    assert sorted(set(stages)) == [0, 1, 2]
    return module, initial, stages


def test_idle_decoders_are_moved_neither_by_momentum_nor_by_decay(trained):
    module, initial, stages = trained
    for step, (before, after) in enumerate(zip([initial, *module.parts], module.parts, strict=False)):
        for name in after:
            if name.startswith("decoders") and not name.startswith(f"decoders.{stages[step]}."):
                assert torch.equal(before[name], after[name]), (step, name)
    own = f"decoders.{stages[-1]}.last.weight"
    assert not torch.equal(module.parts[-1][own], module.parts[-2][own])


def test_the_encoder_learns_from_all_stages(trained):
    module, initial, stages = trained
    name = "encoders.0.first.weight"
    for step, (before, after) in enumerate(zip([initial, *module.parts], module.parts, strict=False)):
        assert not torch.equal(before[name], after[name]), stages[step]


def test_every_average_is_the_closed_form_of_its_own_updates(trained):
    """After own updates w_0, w_1, ...: a = w_0, then a <- a + (1 - d_i) (w_i - a), d_i = min(d, (1 + i) / (10 + i))."""
    module, _, stages = trained
    for name in ("encoders.0.time.0.weight", *(f"decoders.{stage}.last.weight" for stage in range(3))):
        own = [s for s in range(STEPS) if name.startswith("encoders") or name.startswith(f"decoders.{stages[s]}.")]
        expected = module.parts[own[0]][name].double()
        for i, step in enumerate(own[1:], start=1):
            decay = min(0.7, (1 + i) / (10 + i))
            expected = decay * expected + (1 - decay) * module.parts[step][name].double()
        torch.testing.assert_close(module.part_averages[-1][name].double(), expected, atol=1e-6, rtol=1e-5)


def test_an_idle_average_stands_still():
    """With one counter for all it would run after the resting weights, and forget all but the last of them."""
    network = UNet(replace(CONFIG, decoder_widths=(4, 8)))
    network.init_weights(torch.Generator().manual_seed(0))
    average = OwnUpdatesAverage(network, decay=0.9)
    first, second = (network.decoders[k].last.bias for k in (0, 1))
    for step in range(30):
        for parameter in network.parameters():
            parameter.grad = None
        trained = first if step % 10 == 0 else second
        trained.grad = torch.ones_like(trained)
        with torch.no_grad():
            trained += 1
        average.update_parameters(network)
    assert sorted(average.updates.unique().tolist()) == [0, 3, 27]
    rare = average.module.decoders[0].last.bias
    expected = 1.0
    for i, value in ((1, 2.0), (2, 3.0)):
        expected += (1 - (1 + i) / (10 + i)) * (value - expected)
    assert rare.item() == pytest.approx(expected)


def test_one_stage_is_the_plain_training(tmp_path):
    config = replace(CONFIG, decoder_widths=(8,))

    class Plain(Recorded, NoisePrediction):
        pass

    plain, stages = Plain(unet(config).part("0"), config.noise, optimisation(steps=STEPS)), training(config, ())
    run(plain, tmp_path / "plain", edges=())
    run(stages, tmp_path / "stages", edges=())
    assert plain.step_losses == stages.step_losses
    for a, b in ((plain.raw, stages.raw.part("0")), (plain.ema.module, stages.ema.module.part("0"))):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize("killed_at", [4, 9, 16])
def test_a_killed_training_goes_on_to_the_same_weights_averages_and_checkpoints(tmp_path, killed_at):
    def kept(into):
        def keep(step):
            return lambda averaged: into.update({step: averaged.decoders[0].last.bias.clone()})

        return {step: keep(step) for step in (8, 20)}

    whole, killed, resumed = training(), training(), training()
    at_once, in_two = {}, {}
    run(whole, tmp_path / "whole", kept(at_once))
    killed.killed_at = killed_at
    with pytest.raises(KilledError):
        run(killed, tmp_path / "work", kept(in_two))
    run(resumed, tmp_path / "work", kept(in_two))
    assert_same_training(whole, resumed)
    assert at_once.keys() == in_two.keys() == {8, 20}
    assert all(torch.equal(at_once[step], in_two[step]) for step in at_once)


def test_with_edm_preconditioning_the_loss_is_that_of_the_layers():
    """Of layers that put out nothing: the mean square of their target, (x_0 - c_skip x) / c_out."""
    noise = NoiseSchedule("cosine")
    network = UNet(replace(CONFIG, predicts="edm", noise=noise))
    network.init_weights(torch.Generator().manual_seed(1))
    batch = batches()[0]
    abar = torch.from_numpy(noise.abar)[batch.timesteps][:, None, None, None]
    sigma = ((1 - abar) / abar).sqrt()
    x = batch.x0.double() + sigma * batch.eps.double()
    target = (batch.x0.double() - 0.25 / (sigma**2 + 0.25) * x) / (sigma * 0.5 / (sigma**2 + 0.25).sqrt())
    module = StageNoisePrediction(network, EDGES, noise, optimisation(steps=STEPS))
    assert float(module.loss(batch)) == pytest.approx(float(target.square().mean()), rel=1e-4)
