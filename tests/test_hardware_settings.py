"""The section of the machine: what does not go together, and what this machine has not, is said in one line."""

import os
import re
import shutil
from typing import Any

import pytest
import torch
from test_config import _parameters

from duodiff_pipeline.config import HardwareSettings, validate
from duodiff_pipeline.config.hardware import SHARING
from duodiff_pipeline.errors import InputError


def settings(**changes: Any) -> HardwareSettings:
    return validate({**_parameters("base"), "hardware": {**_parameters("base")["hardware"], **changes}}).hardware


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "16-mixed"}, "hardware: precision 16-mixed needs a GPU: on the CPU there are 32-true and bf16"),
        ({"accelerator": "mps", "devices": 2}, "hardware: devices is 2, but mps is one"),
        ({"devices": 0}, "hardware.devices: Input should be greater than or equal to 1, not 0"),
        (
            {"devices": 2, "gradient_accumulation": 3},
            "training.batch_images is 64, no multiple of hardware.devices 2 times hardware.gradient_accumulation 3",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        settings(**changes)
    assert str(caught.value).startswith(f"parameters: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 2}, "hardware.devices is 2, but of CPU cores this machine has 1"),
        ({"accelerator": "gpu"}, "hardware.accelerator is gpu, but this machine has none that PyTorch finds"),
        ({"accelerator": "auto", "precision": "16-mixed"}, "hardware.precision is 16-mixed, which needs a GPU, but"),
        ({"compile": True}, "hardware.compile needs a C++ compiler, which this machine has not: set it to false"),
    ],
)
def test_what_a_machine_of_one_core_has_not_is_refused(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    settings().require_present()
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        settings(**changes).require_present()
    assert "\n" not in str(caught.value)


def test_devices_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    eight = settings(accelerator="gpu", precision="bf16-mixed", devices=8)
    assert (eight.device, settings().device) == ("cuda", "cpu")
    with pytest.raises(InputError, match=r"devices is 8, but of devices of kind cuda this machine has 2"):
        eight.require_present()


def test_what_shares_the_work_is_no_part_of_what_results_depend_on() -> None:
    shared = settings(devices=4, gradient_accumulation=2, gradient_checkpointing=True)
    assert (shared.of_training, shared.of_sampling) == (settings().of_training, settings().of_sampling)
    assert settings().of_training.keys() == HardwareSettings.model_fields.keys() - SHARING
    half = settings(precision="bf16-mixed", compile=True)  # of training alone
    assert half.of_training != settings().of_training
    assert half.of_sampling == settings().of_sampling
