"""What the training nodes share: one training in its work folder, as a network file, a loss curve and seconds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .. import tracking
from ..config import HardwareSettings, Training
from ..images.pack import ImagePack
from ..networks.files import NetworkHeader, StoredNetwork
from ..networks.uvit import UViT
from ..workdir import WorkDir

if TYPE_CHECKING:
    from ..training.modules import NoiseTraining

CODE = [
    "config/training.py",
    "diffusion",
    "networks",
    "training",
    "pipelines/training",
    "pipelines/stage_training",
    "pipelines/early_exit",
]
WATCHING = ("checkpoint_every_steps", "observe_every_steps")  # change nothing that is learnt


def train_once(
    name: str,
    module: "NoiseTraining",
    header: NetworkHeader,
    train: ImagePack,
    training: Training,
    hardware: HardwareSettings,
    seed: int,
    inputs: Mapping[str, str],
    work_folder: Path,
    draw: Callable[[nn.Module], Tensor] | None = None,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """Train a module for the steps in the header of its file, unless the work folder has it already.

    inputs: sha256 by name of what the training depends on beside the images; draw: see `fit`. Returns the averaged
    network, its loss curve and the seconds of training.
    """
    from ..training.batches import StepBatches
    from ..training.fit import Hardware, fit

    steps = header.step
    low, high = map(int, header.timestep_range)
    parameters = {
        "kind": header.kind,
        "architecture": header.architecture,
        "timestep_range": header.timestep_range,
        "steps": steps,
        "training": {key: value for key, value in header.training.items() if key not in WATCHING},
    }
    work = WorkDir(work_folder, f"train_{name}", parameters, {"train": train.sha256, **inputs}, CODE)
    finished = work.folder / "network.safetensors"

    with tracking.current().child(f"train {name}") as child:
        child.log_params(parameters)

        def run() -> dict[str, Any]:
            fitted = fit(
                module,
                StepBatches(
                    train.images,
                    (low, high),
                    training.batch_images,
                    steps,
                    seed,
                    training.flip,
                    labels=None if training.label_dropout is None else train.labels,
                    label_dropout=training.label_dropout or 0.0,
                    null_label=train.classes,
                ),
                Hardware(hardware.accelerator, hardware.devices, hardware.precision),
                work.folder,
                training.checkpoint_every_steps,
                child,
                training.observe_every_steps,
                draw,
            )
            StoredNetwork(module.ema.module, header).save(finished)
            return {"losses": fitted.losses, "seconds": fitted.seconds}

        made_before = work.remembers("result", finished)
        result = work.remember("result", run, finished)
        for step, loss in result["losses"] if made_before else []:
            child.log_metrics({"loss": loss}, step)
        child.log_metrics({"seconds": result["seconds"]}, steps)
    stored = StoredNetwork.load(finished)
    curve = {"losses": result["losses"], "training_gmacs": training_gmacs(stored)}
    return stored, curve, {"seconds": result["seconds"]}


def training_gmacs(stored: StoredNetwork) -> float:
    """Cost of a whole training: forward, and backward twice that, unless the header knows better."""
    header = stored.header
    step_macs = header.step_macs
    if step_macs is None:
        assert isinstance(stored.module, UViT)
        step_macs = 3 * stored.module.macs
    batch_images: int = header.training["batch_images"]
    return header.step * batch_images * step_macs / 1e9
