"""Trainings of every kind, small enough to compare step by step; importable by the processes that share them."""

from pathlib import Path

import torch

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.early_exit import EarlyExits
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.networks.shared_exits import SharedExits
from duodiff_pipeline.networks.unet import UNet, UNetConfig
from duodiff_pipeline.networks.uvit import UViT, UViTConfig
from duodiff_pipeline.training.batches import StageBatches, StepBatches
from duodiff_pipeline.training.exit_schedules import ExitScheduleTraining
from duodiff_pipeline.training.fit import Fitted, Hardware, fit
from duodiff_pipeline.training.modules import (
    EarlyExitTraining,
    NoisePrediction,
    NoiseTraining,
    SharedExitTraining,
    StageNoisePrediction,
)
from duodiff_pipeline.training.optimisation import Optimisation

NOISE = NoiseSchedule()
CONFIG = UViTConfig(image_size=8, channels=1, patch=4, width=16, depth=3, heads=2, predicts="image", noise=NOISE)
EDGES = (500.0,)
KINDS = ("backbone", "student", "early exits", "shared exits", "exit schedule", "decoders")
PIXELS = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = ImagePack(PIXELS, torch.zeros(30, dtype=torch.int64), "", "train", "")


def filled(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return module


def uvit(seed: int = 0) -> UViT:
    return filled(UViT(CONFIG), seed)


def training(kind: str, steps: int) -> NoiseTraining:
    optimisation = Optimisation(steps, 1e-3, 2, 0.01, (0.9, 0.99), 1.0, 0.9, 5.0)
    match kind:
        case "backbone":
            return NoisePrediction(uvit(), NOISE, optimisation)
        case "student":
            return NoisePrediction(uvit(), NOISE, optimisation, uvit(1).requires_grad_(False))
        case "early exits":
            exits = filled(EarlyExits(CONFIG))
            return EarlyExitTraining(exits, uvit().requires_grad_(False), NOISE, optimisation)
        case "shared exits":
            return SharedExitTraining(filled(SharedExits(CONFIG)), NOISE, optimisation)
        case "exit schedule":  # so deep only near the data that many a share of a batch has no such image
            network = uvit()
            schedule = ExitSchedule((3, *[2] * 9), NOISE)
            return ExitScheduleTraining(network, schedule, "equal_depths", NOISE, optimisation)
        case _:
            config = UNetConfig(8, 1, 8, (8, 4), (1, 2), 1, predicts="image", noise=NOISE)
            return StageNoisePrediction(filled(UNet(config)), EDGES, NOISE, optimisation)


def batches(kind: str, steps: int, images: int = 4) -> StepBatches:
    if kind == "decoders":
        return StageBatches(IMAGES, EDGES, 1000, "uniform", images, steps, seed=3)
    return StepBatches(IMAGES, (0, 1000), images, steps, seed=3)


class Observer:
    def __init__(self) -> None:
        self.losses, self.drawn = dict[int, float](), list[int]()

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.losses[step] = values["loss"]

    def log_images(self, name: str, images_u8: torch.Tensor, step: int) -> None:
        assert images_u8.dtype == torch.uint8
        self.drawn.append(step)


def run(
    kind: str, steps: int, folder: Path, every: int = 1000, draw=None, keep=None, observer=None, **hardware
) -> tuple[NoiseTraining, Fitted, Observer]:
    module, observer = training(kind, steps), observer or Observer()
    where = Hardware("cpu", hardware.pop("devices", 1), hardware.pop("precision", "32-true"), **hardware)
    return module, fit(module, batches(kind, steps), where, folder, every, observer, 1, draw, keep), observer


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])
