"""The device that sampling runs on."""

from typing import Literal

from ..config import HardwareSettings
from ..networks.files import StoredNetwork

Device = Literal["cpu", "cuda", "mps"]


def sampling_device(hardware: HardwareSettings, *networks: StoredNetwork) -> Device:
    """The device that Lightning's accelerator of that name stands for; the networks are moved there."""
    import torch

    device: Device = "cpu"
    if hardware.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        device = "cuda"
    elif hardware.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        device = "mps"
    for network in networks:
        network.module.to(device)
    return device
