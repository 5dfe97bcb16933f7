"""The section of the machine: where the work runs, and how it is fitted on it."""

import importlib.util
import os
import shutil
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from ..errors import InputError
from .settings import Settings

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Device = Literal["cpu", "cuda", "mps"]

# What is the same whatever they are: images bit for bit, trainings up to the order of sums.
SHARING = {"devices", "gradient_accumulation", "gradient_checkpointing"}
OF_TRAINING = {"precision", "compile"}


class HardwareSettings(Settings):
    """Where the work runs."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field(
        description="Lightning's accelerator; sampling follows it"
    )
    devices: int = Field(
        ge=1,
        description="processes that share a training, each with a device of its own, and that draw images; on the CPU "
        "each has `threads`",
    )
    precision: Precision = Field(description="Lightning's precision of training")
    gradient_accumulation: int = Field(
        default=1, ge=1, description="pieces of its share of a batch that a process works through one after the other"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute blocks again for their gradients, instead of keeping what they hold"
    )
    compile: bool = Field(default=False, description="torch.compile the blocks of what is trained")
    channels_last: bool = Field(default=False, description="memory format of convolutions; pays with half precision")
    threads: int | None = Field(ge=1, description="CPU threads of PyTorch; null leaves its default")

    @model_validator(mode="after")
    def _go_together(self) -> "HardwareSettings":
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ValueError("precision 16-mixed needs a GPU: on the CPU there are 32-true and bf16-mixed")
        if self.accelerator == "mps" and self.devices > 1:
            raise ValueError(f"devices is {self.devices}, but mps is one")
        return self

    @property
    def of_training(self) -> dict[str, Any]:
        """What a training depends on, beyond the order of sums."""
        return self.model_dump(exclude=SHARING)

    @property
    def of_sampling(self) -> dict[str, Any]:
        """What drawn images depend on."""
        return self.model_dump(exclude=SHARING | OF_TRAINING)

    @property
    def device(self) -> Device:
        """What Lightning's accelerator of that name stands for, on this machine."""
        if self.accelerator in ("auto", "gpu") and torch.cuda.is_available():
            return "cuda"
        if self.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
            return "mps"
        return "cpu"

    def require_present(self) -> None:
        """Raises InputError where this machine has no such accelerator, fewer devices, or no compiler."""
        if self.accelerator not in ("auto", "cpu") and self.device == "cpu":
            raise InputError(
                f"hardware.accelerator is {self.accelerator}, but this machine has none that PyTorch finds"
            )
        there = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": os.cpu_count() or 1}[self.device]
        if self.devices > there:
            what = "CPU cores" if self.device == "cpu" else f"devices of kind {self.device}"
            raise InputError(f"hardware.devices is {self.devices}, but of {what} this machine has {there}")
        if self.precision == "16-mixed" and self.device == "cpu":
            raise InputError("hardware.precision is 16-mixed, which needs a GPU, but this machine has none")
        if self.compile and not _has_compiler(self.device):
            needed = "Triton" if self.device == "cuda" else "a C++ compiler"
            raise InputError(f"hardware.compile needs {needed}, which this machine has not: set it to false")


def _has_compiler(device: Device) -> bool:
    if device == "cuda":
        return importlib.util.find_spec("triton") is not None
    return device == "mps" or any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
