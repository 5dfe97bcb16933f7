"""What the nodes that sample share: the device, and the meter of the search and the evaluation."""

from typing import Literal

import torch

from ..config import HardwareSettings, Noise, Sampling
from ..images.examples import Examples
from ..metrics.extractor import FeatureExtractor
from ..metrics.measure import Meter
from ..metrics.reference import ReferenceStatistics
from ..networks.files import StoredNetwork

Device = Literal["cpu", "cuda", "mps"]

STARTS_BYTES = 2**30  # of sampled states that plans with the same start share


def sampling_device(hardware: HardwareSettings, *networks: StoredNetwork) -> Device:
    """The device that Lightning's accelerator of that name stands for; the networks are moved there."""
    device: Device = "cpu"
    if hardware.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        device = "cuda"
    elif hardware.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        device = "mps"
    for network in networks:
        network.module.to(device)
    return device


def make_meter(
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    examples: Examples,
    images: int | None,
    noise: Noise,
    sampling: Sampling,
    device: Device,
) -> Meter:
    """A meter of `images` generated images, or of as many as there are examples, which are held out; the extractor is
    moved to the device.
    """
    extractor.to(device)
    return Meter(
        extractor=extractor,
        reference=reference,
        noise=noise.schedule(),
        examples=examples,
        n_images=images or len(examples),
        micro_batch_images=sampling.micro_batch_images,
        device=device,
    )
