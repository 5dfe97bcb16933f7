"""What the nodes that sample share: the device, the sampler, and the meter of the search and the evaluation."""

import torch

from ..config import HardwareSettings, Noise, Sampling
from ..config.hardware import Device
from ..diffusion.sharding import Sampler
from ..images.examples import Examples
from ..metrics.extractor import FeatureExtractor
from ..metrics.measure import Meter
from ..metrics.reference import ReferenceStatistics
from ..networks.files import StoredNetwork

STARTS_BYTES = 2**30  # of sampled states that plans with the same start share


def move_to_device(hardware: HardwareSettings, *networks: StoredNetwork) -> Device:
    """The device of this process, after the networks were moved there."""
    memory_format = torch.channels_last if hardware.channels_last else torch.preserve_format
    for network in networks:
        network.module.to(hardware.device, memory_format=memory_format)  # type: ignore[call-overload]
    return hardware.device


def make_sampler(sampling: Sampling, hardware: HardwareSettings) -> Sampler:
    return Sampler(
        hardware.device, sampling.micro_batch_images, sampling.precision, hardware.devices, starts_bytes=STARTS_BYTES
    )


def make_meter(
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    examples: Examples,
    images: int | None,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
) -> Meter:
    """A meter of `images` generated images, or of as many as there are examples, which are held out; the extractor is
    moved to the device.
    """
    extractor.to(hardware.device)
    return Meter(
        extractor=extractor,
        reference=reference,
        noise=noise.schedule(),
        examples=examples,
        n_images=images or len(examples),
        sampler=make_sampler(sampling, hardware),
    )
