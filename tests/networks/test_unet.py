"""The multi-decoder U-Net: the published counts, its parts, and what its degenerate cases equal."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.files import NetworkHeader, StoredNetwork
from duodiff_pipeline.networks.plans import NetworkBank, SamplingPlan, single
from duodiff_pipeline.networks.unet import UNet, UNetConfig, groups

CIFAR10 = UNetConfig(32, 3, 128, (16, 128, 192), (1, 2, 2, 2), 8, (16,))
TINY = UNetConfig(8, 1, 8, (4, 8, 12), (1, 2), 1, (4,))


def filled(config: UNetConfig, seed: int = 0) -> UNet:
    """Every parameter normal, so that none can go unnoticed."""
    network, generator = UNet(config), torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return network.eval().requires_grad_(False)


def inputs(config: UNetConfig, n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    side, generator = config.image_size, torch.Generator().manual_seed(9)
    x = torch.randn(n, config.channels, side, side, generator=generator)
    return x, torch.tensor([0, 400, 999][:n])


def stored(config: UNetConfig = TINY, edges: tuple[float, ...] = (600.0, 300.0), seed: int = 0) -> StoredNetwork:
    header = NetworkHeader(
        kind="unet",
        architecture=asdict(config),
        timestep_range=(0, config.noise.timesteps),
        training={},
        step=1,
        weights="ema",
        data_sha256="ab" * 32,
        stage_edges=edges,
    )
    return StoredNetwork(filled(config, seed), header)


@pytest.fixture(scope="module")
def cifar10() -> UNet:
    with torch.device("meta"):
        return UNet(CIFAR10)


@pytest.mark.parametrize(("stage", "millions", "gmacs"), [(0, 47.1, 7.2), (1, 107.5, 18.6), (2, 169.5, 31.0)])
def test_stages_count_what_is_published(cifar10: UNet, stage: int, millions: float, gmacs: float) -> None:
    part = cifar10.part(str(stage))
    assert sum(p.numel() for p in part.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert part.macs / 1e9 == pytest.approx(gmacs, rel=0.03)


def test_all_of_it_counts_what_is_stored(cifar10: UNet) -> None:
    assert sum(p.numel() for p in cifar10.parameters()) / 1e6 == pytest.approx(237, rel=0.01)
    encoder = sum(p.numel() for p in cifar10.encoders.parameters())
    assert encoder / 1e6 == pytest.approx(43.5, rel=0.01)


def test_parameters_written_out() -> None:
    """A network of one level and one block, by hand: convolutions, norms, embeddings."""
    config = UNetConfig(8, 2, 8, (12,), (1,), 1)

    def convolution(i: int, o: int, side: int = 3) -> int:
        return i * o * side**2 + o

    def residual(i: int, o: int) -> int:
        shortcut = convolution(i, o, 1) if i != o else 0
        return 2 * i + convolution(i, o) + 32 * o + o + 2 * o + convolution(o, o) + shortcut

    attention = 2 * 8 + 4 * (8 * 8 + 8)
    encoder = 8 * 32 + 32 + 32 * 32 + 32 + convolution(2, 8) + residual(8, 8) + 2 * residual(8, 8) + attention
    decoder = residual(8 + 8, 12) + residual(12 + 8, 12) + 2 * 12 + convolution(12, 2)
    network = UNet(config)
    assert sum(p.numel() for p in network.parameters()) == encoder + decoder


@pytest.mark.parametrize("channels", [4, 8, 12, 16, 28, 64, 144, 288, 320])
def test_groups_divide_the_channels(channels: int) -> None:
    assert channels % groups(channels) == 0
    assert channels / groups(channels) >= 4
    if channels % min(16, channels // 4) == 0:
        assert groups(channels) == min(16, channels // 4)  # the reference's


def test_every_weight_matters_in_its_own_stage_alone() -> None:
    config = replace(TINY, num_classes=3)
    network = filled(config).requires_grad_(True)
    x, timesteps = inputs(config)
    for stage, part in enumerate(network.stages):
        network.zero_grad(set_to_none=True)
        part(x, timesteps, torch.tensor([0, 1, 2])).square().sum().backward()
        moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        own = {name for name, _ in network.named_parameters() if name.startswith(("encoders.0.", f"decoders.{stage}."))}
        still = {name for name in own - moved if "to_k.bias" not in name}  # softmax does not see a key's bias
        assert moved <= own
        assert not still


def test_labels_are_needed_exactly_where_there_are_classes() -> None:
    x, timesteps = inputs(TINY)
    with pytest.raises(InputError, match="0 classes"):
        filled(TINY).part("0")(x, timesteps, torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match="3 classes"):
        filled(replace(TINY, num_classes=3)).part("0")(x, timesteps)


def test_predict_is_forward_at_one_timestep() -> None:
    part = filled(TINY).part("2")
    x, _ = inputs(TINY)
    prediction = part.predict(x, 400.0)
    assert torch.equal(prediction.eps, part(x, torch.full((3,), 400.0)))
    assert prediction.macs.tolist() == [part.macs] * 3
    assert part.macs > 0


def test_costs_do_not_depend_on_what_is_predicted() -> None:
    assert UNet(replace(TINY, predicts="image")).part("0").macs == UNet(TINY).part("0").macs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 9}, "2 levels halve the image 1 times, which its size 9 does not bear"),
        ({"decoder_widths": (4, 6)}, "width 6 is no multiple of 4"),
    ],
)
def test_impossible_architectures_are_refused(change, message) -> None:
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_a_missing_part_is_refused_with_those_there_are() -> None:
    bank = NetworkBank({"multistage": stored()})
    with pytest.raises(InputError, match=r"multistage/3: there is no part '3': this network has the parts 0, 1, 2"):
        bank.network("multistage/3")
    with pytest.raises(InputError, match=r"multistage: there is no part '': this network has the parts 0, 1, 2"):
        bank.network("multistage")
    with pytest.raises(InputError, match="there is no backbone 'other'; there are"):
        bank.network("other/0")


def staged_plan(edges: tuple[float, ...], name: str = "multistage", solver: Solver | None = None) -> SamplingPlan:
    serves = tuple(f"{name}/{stage}" for stage in range(len(edges) + 1))
    return SamplingPlan(name, solver or Solver("ddim", 10), StageSchedule(edges, serves, NoiseSchedule()))


def test_states_are_shared_between_runs_of_the_same_decoder_alone() -> None:
    network = stored()
    served_by = NetworkBank({"multistage": network}).served_by(staged_plan((600.0, 300.0)))
    assert served_by == tuple((stage, network.sha256, str(stage), 1.0) for stage in (0, 0, 0, 0, 1, 1, 1, 2, 2, 2))


def test_each_part_serves_where_it_was_trained_and_nowhere_else() -> None:
    bank = NetworkBank({"multistage": stored()})
    denoiser = bank.denoiser(staged_plan((600.0, 300.0)))
    x = inputs(TINY)[0]
    for timestep, stage in ((999.0, 0), (600.0, 0), (599.5, 1), (300.0, 1), (299.0, 2), (0.0, 2)):
        prediction = denoiser.predict(x, timestep)
        assert prediction.stage == stage
        assert torch.equal(prediction.eps, bank.network(f"multistage/{stage}").predict(x, timestep).eps)
    with pytest.raises(InputError, match=r"multistage/0 was trained for timesteps \[600, 1000\), .* uses it at 599"):
        bank.denoiser(staged_plan((500.0, 300.0)))
    with pytest.raises(InputError, match=r"multistage/2 was trained for timesteps \[0, 300\)"):
        bank.denoiser(single("end", "multistage/2", Solver("ddim", 10), NoiseSchedule()))


def test_cost_and_memory_of_a_plan_are_those_of_the_parts_that_serve() -> None:
    bank = NetworkBank({"multistage": stored()})
    plan = staged_plan((600.0, 300.0))
    macs = [bank.network(f"multistage/{stage}").macs for stage in range(3)]
    assert bank.static_gmacs(plan) == pytest.approx((4 * macs[0] + 3 * macs[1] + 3 * macs[2]) / 1e9)
    assert macs[0] < macs[1] < macs[2]
    assert bank.resident_parameters(plan) == bank.backbones["multistage"].parameters


def test_equal_decoders_sharing_weights_are_the_unified_network_bit_for_bit() -> None:
    unified = stored(replace(TINY, decoder_widths=(8,)), ())
    three = stored(replace(TINY, decoder_widths=(8, 8, 8)), (600.0, 300.0), seed=1)
    for encoder in three.module.encoders:
        encoder.load_state_dict(unified.module.encoders[0].state_dict())
    for decoder in three.module.decoders:
        decoder.load_state_dict(unified.module.decoders[0].state_dict())
    bank = NetworkBank({"unified": unified, "multistage": three})
    images = [
        sample(bank.denoiser(plan), plan.solver, NoiseSchedule(), (1, 8, 8), range(4), 0, 4).images
        for solver in (Solver("dpmsolver++", 6), Solver("heun", 4))
        for plan in (staged_plan((), "unified", solver), staged_plan((600.0, 300.0), solver=solver))
    ]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[2], images[3])


def test_separate_networks_share_nothing() -> None:
    config = replace(TINY, shared_encoder=False)
    network = filled(config)
    parts = [{id(p) for p in part.parameters()} for part in network.stages]
    assert not (parts[0] & parts[1] | parts[1] & parts[2])
    assert sum(map(len, parts)) == len(list(network.parameters()))
    shared = filled(TINY)
    for stage in range(3):
        assert network.part(str(stage)).macs == shared.part(str(stage)).macs


def test_a_stored_network_comes_back_with_its_stages(tmp_path) -> None:
    before = stored()
    before.save(tmp_path / "network.safetensors")
    after = StoredNetwork.load(tmp_path / "network.safetensors")
    assert after.header == replace(before.header, architecture=after.header.architecture)
    assert after.header.stage_edges == (600.0, 300.0)
    assert after.sha256 == before.sha256
    assert after.module.config == before.module.config
    x, timesteps = inputs(TINY)
    assert torch.equal(after.module.part("1")(x, timesteps), before.module.part("1")(x, timesteps))
    assert stored(edges=(700.0, 300.0)).sha256 != before.sha256


def test_initial_weights_follow_the_generator_and_predict_nothing() -> None:
    networks = [UNet(TINY) for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        network.init_weights(torch.Generator().manual_seed(seed))
    states = [torch.cat([p.flatten() for p in network.parameters()]) for network in networks]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    x, timesteps = inputs(TINY)
    assert (networks[0].part("0")(x, timesteps) == 0).all()
