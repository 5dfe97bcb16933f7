"""What a step minimises, written out in float64."""

import numpy as np
import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.early_exit import EarlyExits, tokens_before_blocks
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.networks.shared_exits import SharedExits
from duodiff_pipeline.networks.unet import UNet, UNetConfig
from duodiff_pipeline.training.batches import Batch
from duodiff_pipeline.training.exit_schedules import ExitScheduleTraining
from duodiff_pipeline.training.modules import (
    EarlyExitTraining,
    NoisePrediction,
    SharedExitTraining,
    StageNoisePrediction,
)
from duodiff_pipeline.training.optimisation import Optimisation

TIMESTEPS = torch.tensor([0, 50, 300, 600, 999])


def optimisation(gamma: float | None) -> Optimisation:
    return Optimisation(10, 1e-3, 2, 0.0, (0.9, 0.999), 1.0, 0.9, gamma)


@pytest.fixture
def batch() -> Batch:
    x0, eps = torch.randn(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    return Batch(x0, eps, TIMESTEPS)


def noisy(batch: Batch, noise) -> torch.Tensor:
    abar = torch.from_numpy(noise.abar)[batch.timesteps][:, None, None, None]
    return (abar.sqrt() * batch.x0.double() + (1 - abar).sqrt() * batch.eps.double()).float()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0])
def test_min_snr_weight_is_min_snr_gamma_over_snr(make_uvit, noise, gamma):
    module = NoisePrediction(make_uvit(), noise, optimisation(gamma))
    snr = noise.abar / (1 - noise.abar)
    expected = np.minimum(snr, gamma) / snr
    weight = module.weight(torch.arange(1000))
    assert weight.dtype == torch.float32
    np.testing.assert_allclose(weight, expected, rtol=1e-6)
    assert weight[0] < 0.01
    assert weight[999] == 1


def test_without_gamma_all_timesteps_weigh_alike(make_uvit, noise):
    assert NoisePrediction(make_uvit(), noise, optimisation(None)).weight(TIMESTEPS).tolist() == [1] * 5


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("predicts", ["noise", "image"])
def test_loss_of_a_backbone_is_the_weighted_mean_squared_error_on_the_noise(make_uvit, noise, batch, gamma, predicts):
    network = make_uvit(predicts=predicts)
    error = network(noisy(batch, noise), TIMESTEPS).double() - batch.eps.double()
    expected = 0.0
    for n in range(5):
        snr = noise.abar[TIMESTEPS[n]] / (1 - noise.abar[TIMESTEPS[n]])
        weight = 1.0 if gamma is None else min(snr, gamma) / snr
        expected += weight * float(error[n].square().sum()) / 64 / 5
    found = NoisePrediction(network, noise, optimisation(gamma)).loss(batch)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_loss_of_a_student_is_its_weighted_distance_to_the_teacher(make_uvit, noise, batch, gamma):
    student, teacher = make_uvit(1, depth=1), make_uvit(2, depth=3, predicts="image")
    x = noisy(batch, noise)
    error = student(x, TIMESTEPS).double() - teacher(x, TIMESTEPS).double()
    weights = [
        1.0 if gamma is None else min(snr, gamma) / snr for snr in noise.abar[TIMESTEPS] / (1 - noise.abar[TIMESTEPS])
    ]
    expected = sum(w * float(e.square().mean()) for w, e in zip(weights, error, strict=True)) / 5
    module = NoisePrediction(student.requires_grad_(True), noise, optimisation(gamma), teacher)
    found = module.loss(batch)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    found.backward()
    assert all(p.grad is not None for p in student.parameters() if p.requires_grad)
    assert all(p.grad is None for p in teacher.parameters())
    assert not any("teacher" in name for name in module.state_dict())


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_loss_of_early_exits_weighs_heads_but_not_probes(make_uvit, make_exits, noise, batch, gamma):
    network = make_uvit(depth=3)
    exits = make_exits(network)
    x = noisy(batch, noise)
    eps, u = (part.double() for part in exits(tokens_before_blocks(network, x, TIMESTEPS), x, TIMESTEPS))
    expected = 0.0
    for i in range(3):
        for n in range(5):
            error = eps[i, n] - batch.eps[n].double()
            snr = noise.abar[TIMESTEPS[n]] / (1 - noise.abar[TIMESTEPS[n]])
            weight = 1.0 if gamma is None else min(snr, gamma) / snr
            expected += (float(u[i, n]) - float(error.abs().tanh().mean())) ** 2 / 5
            expected += (1 - float(u[i, n])) * weight * float(error.square().mean()) / 5
    found = EarlyExitTraining(exits, network, noise, optimisation(gamma)).loss(batch)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_loss_of_shared_exits_weighs_the_network_and_layers_but_not_probes(
    make_uvit, make_shared_exits, noise, batch, gamma
):
    exits = make_shared_exits(make_uvit(depth=3))
    eps, confidence = (part.double() for part in exits(noisy(batch, noise), TIMESTEPS))
    trust = [float(confidence[i].mean()) for i in range(3)]
    expected = 0.0
    for i in range(3):
        for n in range(5):
            error = eps[i, n] - batch.eps[n].double()
            snr = noise.abar[TIMESTEPS[n]] / (1 - noise.abar[TIMESTEPS[n]])
            weight = 1.0 if gamma is None else min(snr, gamma) / snr
            expected += float((confidence[i, n] - (1 - error.abs().tanh())).square().mean()) / 5 / 3
            expected += (trust[i] / sum(trust) + (i == 2)) * weight * float(error.square().mean()) / 5
    found = SharedExitTraining(exits, noise, optimisation(gamma)).loss(batch)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("probe", ["linear", "attention"])
@pytest.mark.parametrize("variant", ["duodiff", "authors"])
def test_exits_learn(make_uvit, noise, batch, variant, probe):
    network = make_uvit(depth=3)
    if variant == "duodiff":
        exits = EarlyExits(network.config, probe)
        training = EarlyExitTraining(exits, network, noise, optimisation(None))
    else:
        exits = SharedExits(network.config, probe)
        training = SharedExitTraining(exits, noise, optimisation(None))
    exits.init_weights(network, torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(exits.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert not any(p.requires_grad for p in network.parameters())


LABELS = torch.tensor([0, 1, 4, 2, 4])


@pytest.mark.parametrize("kind", ["backbone", "student", "early exits", "shared exits", "exit schedule", "decoders"])
def test_labels_reach_every_network_that_is_trained(make_uvit, make_exits, make_shared_exits, noise, batch, kind):
    network, teacher = (make_uvit(i, num_classes=5, null_class=True) for i in (1, 2))
    schedule = ExitSchedule((network.depth, network.depth - 1), noise)
    unet = UNet(UNetConfig(8, 1, 8, (4, 8), (1, 2), 1, num_classes=5, null_class=True, noise=noise))
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    module = {
        "backbone": lambda: NoisePrediction(network, noise, optimisation(None)),
        "student": lambda: NoisePrediction(network, noise, optimisation(None), teacher),
        "early exits": lambda: EarlyExitTraining(make_exits(network), network, noise, optimisation(None)),
        "shared exits": lambda: SharedExitTraining(make_shared_exits(network), noise, optimisation(None)),
        "exit schedule": lambda: ExitScheduleTraining(network, schedule, "uniform", noise, optimisation(None)),
        "decoders": lambda: StageNoisePrediction(unet, (500.0,), noise, optimisation(None)),
    }[kind]()
    losses = {float(module.loss(batch._replace(labels=labels))) for labels in (LABELS, LABELS.flip(0), LABELS * 0)}
    assert len(losses) == 3
    with pytest.raises(InputError, match="labels are needed"):
        module.loss(batch)


def test_loss_of_a_conditional_backbone_is_its_error_given_the_labels(make_uvit, noise, batch):
    network = make_uvit(num_classes=5, null_class=True)
    error = network(noisy(batch, noise), TIMESTEPS, LABELS).double() - batch.eps.double()
    module = NoisePrediction(network, noise, optimisation(None))
    found = module.loss(batch._replace(labels=LABELS))
    assert float(found) == pytest.approx(float(error.square().mean()), rel=1e-5)
