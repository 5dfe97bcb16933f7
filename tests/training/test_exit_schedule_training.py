"""What fine-tuning for an exit schedule minimises, written out in float64, and what it leaves alone."""

import pytest
import torch

from duodiff_pipeline.networks.dit import DiT, DiTConfig
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.training.batches import Batch
from duodiff_pipeline.training.exit_schedules import ExitScheduleTraining, time_weights
from duodiff_pipeline.training.optimisation import Optimisation

TIMESTEPS = torch.tensor([0, 50, 300, 600, 999])


def optimisation(gamma: float | None = None) -> Optimisation:
    return Optimisation(10, 1e-2, 2, 0.1, (0.9, 0.999), 1.0, 0.9, gamma)


@pytest.fixture
def batch() -> Batch:
    x0, eps = torch.randn(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    return Batch(x0, eps, TIMESTEPS)


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("weighting", ["uniform", "equal_depths"])
def test_every_image_errs_at_the_depth_of_its_timestep(make_uvit, noise, batch, weighting, gamma):
    network = make_uvit(depth=5)
    schedule = ExitSchedule((5, 4, 4, 4, 3), noise)
    by_hand = {0: 5, 50: 5, 300: 4, 600: 4, 999: 3}
    share = {5: 0.2, 4: 0.6, 3: 0.2}
    expected = 0.0
    for n, timestep in enumerate(TIMESTEPS.tolist()):
        depth, abar = by_hand[timestep], float(noise.abar[timestep])
        x = (abar**0.5 * batch.x0[n].double() + (1 - abar) ** 0.5 * batch.eps[n].double()).float()[None]
        error = network.part(str(depth))(x, TIMESTEPS[n : n + 1])[0].double() - batch.eps[n].double()
        snr = abar / (1 - abar)
        weight = 1.0 if gamma is None else min(snr, gamma) / snr
        weight /= 3 * share[depth] if weighting == "equal_depths" else 1
        expected += weight * float(error.square().mean()) / 5
    module = ExitScheduleTraining(network, schedule, weighting, noise, optimisation(gamma))
    assert float(module.loss(batch)) == pytest.approx(expected, rel=1e-4)


def test_weights_of_timesteps_have_mean_one_and_equal_sums_over_depths():
    depths = torch.tensor([5, 5, 5, 4, 3, 3])
    assert time_weights("uniform", depths).tolist() == [1] * 6
    balanced = time_weights("equal_depths", depths)
    assert balanced.mean() == 1
    assert [float(balanced[depths == d].sum()) for d in (5, 4, 3)] == pytest.approx([2, 2, 2])


@pytest.mark.parametrize("kind", ["uvit", "dit"])
def test_embeddings_of_time_and_place_stay_and_the_rest_learns(make_uvit, noise, batch, kind):
    if kind == "uvit":
        network, frozen = make_uvit(depth=3).requires_grad_(True), {"pos_embed"}
    else:
        network = DiT(DiTConfig(8, 1, 4, 16, 3, 2))
        torch.nn.init.normal_(network.final_linear.weight, generator=torch.Generator().manual_seed(0))
        frozen = {f"time_mlp.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")}
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    training = ExitScheduleTraining(network, ExitSchedule((3, 2), noise), "uniform", noise, optimisation())
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        training.loss(batch).backward()
        optimiser.step()
    moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == before.keys() - frozen
    assert all(torch.equal(parameter, before[name]) for name, parameter in training.ema.module.named_parameters())


def test_a_truncated_network_learns_to_leave(make_uvit, noise, batch):
    network = make_uvit(depth=5).requires_grad_(True)
    training = ExitScheduleTraining(network, ExitSchedule((3,), noise), "uniform", noise, optimisation())
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is None for block in network.out_blocks for p in block.mlp.parameters())
    assert all(p.grad is not None for block in network.out_blocks for p in block.skip_linear.parameters())
