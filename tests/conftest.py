"""What several rooms' tests share: one thread, and tiny networks with weights large enough to tell them apart."""

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from duodiff_pipeline import tracking
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.networks.dit import DiT, DiTConfig
from duodiff_pipeline.networks.early_exit import EarlyExits
from duodiff_pipeline.networks.files import NetworkHeader, StoredNetwork
from duodiff_pipeline.networks.probes import ProbeName
from duodiff_pipeline.networks.shared_exits import SharedExits
from duodiff_pipeline.networks.transformer import TransformerBackbone
from duodiff_pipeline.networks.uvit import UViT, UViTConfig

torch.set_num_threads(1)

TINY = UViTConfig(image_size=8, channels=1, patch=4, width=16, depth=3, heads=2)


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the tracked run of another, or the store of whoever runs the tests."""
    monkeypatch.setattr(tracking, "_current", tracking.Run())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def fill(module: nn.Module, seed: int, std: float) -> None:
    """Every parameter normal, norms and biases included, so that none of them can go unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std, generator=generator)


@pytest.fixture(scope="session")
def noise() -> NoiseSchedule:
    return NoiseSchedule()


@pytest.fixture(scope="session")
def make_uvit() -> Callable[..., UViT]:
    def make(seed: int = 0, **changes) -> UViT:
        network = UViT(replace(TINY, **changes))
        fill(network, seed, std=0.2)
        return network.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def make_dit() -> Callable[..., DiT]:
    def make(seed: int = 0, **changes) -> DiT:
        network = DiT(replace(DiTConfig(image_size=8, channels=1, patch=4, width=16, depth=3, heads=2), **changes))
        fill(network, seed, std=0.2)
        return network.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def make_exits() -> Callable[..., EarlyExits]:
    def make(network: TransformerBackbone, seed: int = 0, probe: ProbeName = "linear") -> EarlyExits:
        exits = EarlyExits(network.config, probe)
        fill(exits.heads, seed, std=0.3)
        fill(exits.probes, seed, std=1.0)  # uncertainties that spread, so that images exit at many depths
        return exits.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def make_shared_exits() -> Callable[..., SharedExits]:
    def make(network: TransformerBackbone, seed: int = 0, probe: ProbeName = "linear") -> SharedExits:
        exits = SharedExits(network.config, probe)
        fill(exits.tuned, seed + 7, std=0.2)
        fill(exits.probes, seed, std=1.0)
        return exits.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def make_stored() -> Callable[..., StoredNetwork]:
    def make(network: TransformerBackbone | EarlyExits | SharedExits, kind: str = "uvit", **changes) -> StoredNetwork:
        header = NetworkHeader(
            kind=kind,
            architecture=asdict(network.config),
            timestep_range=(0, network.config.noise.timesteps),
            training={"learning_rate": 1e-3, "adam_betas": [0.9, 0.999]},
            step=12,
            weights="ema",
            data_sha256="ab" * 32,
        )
        return StoredNetwork(network, replace(header, **changes))

    return make
