"""What the training nodes share: one training in its work folder, as a network file, a loss curve and seconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import tracking
from ..config import HardwareSettings, Training
from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import NoiseSchedule
from ..diffusion.sampling import sample
from ..diffusion.solvers import Solver
from ..images.examples import Examples
from ..networks.backbone import Backbone
from ..networks.files import NetworkHeader, StoredNetwork
from ..workdir import WorkDir

if TYPE_CHECKING:
    from ..training.batches import StepBatches
    from ..training.modules import NoiseTraining

CODE = [
    "config/training.py",
    "diffusion",
    "networks",
    "training",
    "pipelines/training",
    "pipelines/stage_training",
    "pipelines/early_exit",
    "pipelines/multistage/training.py",
]
RESULT, NETWORK = "result", "network.safetensors"  # of a training in its work folder
WATCHING = ("checkpoint_every_steps", "observe_every_steps")  # change nothing that is learnt


@dataclass(frozen=True)
class Untrained:
    """A network before its training: all that is known of it by then, be it on the meta device.

    header: of the file it will be in; fill: gives it the weights that the training begins with; training: what is then
    fitted; inputs: sha256 by name of what the training depends on beside the images.
    """

    network: nn.Module
    header: NetworkHeader
    fill: Callable[[], None]
    training: Callable[[], "NoiseTraining"]
    inputs: Mapping[str, str] = field(default_factory=dict)

    def begun(self) -> "NoiseTraining":
        """With those weights."""
        self.fill()
        return self.training()


def train_once(
    name: str,
    module: "NoiseTraining",
    header: NetworkHeader,
    train: Examples,
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

    low, high = map(int, header.timestep_range)
    batches = StepBatches(
        train,
        (low, high),
        training.batch_images,
        header.step,
        seed,
        training.flip,
        **training_labels(train, training),
    )
    (network,), curve, seconds = train_and_keep(
        name, module, header, train, batches, training, hardware, inputs, work_folder, draw=draw
    )
    return network, curve, seconds


def train_and_keep(
    name: str,
    module: "NoiseTraining",
    header: NetworkHeader,
    train: Examples,
    batches: "StepBatches",
    training: Training,
    hardware: HardwareSettings,
    inputs: Mapping[str, str],
    work_folder: Path,
    keep_at_steps: Sequence[int] = (),
    draw: Callable[[nn.Module], Tensor] | None = None,
    until: int | None = None,
) -> tuple[list[StoredNetwork], dict[str, Any], dict[str, Any]]:
    """As `train_once`, on batches of one's own; the averaged network as it was at these steps, and the final one.

    keep_at_steps: before the last; until: one of them, at which the training stops, untracked: it returns the networks
    up to there alone, and may go on later.
    """
    from ..training.fit import Fitted, Hardware, fit, newest_step

    steps = header.step
    parameters = _parameters(header, hardware, keep_at_steps)
    work = training_work(name, header, train, hardware, inputs, work_folder, keep_at_steps)
    finished = work.folder / NETWORK
    kept = {step: work.folder / f"network_{step}.safetensors" for step in keep_at_steps}

    with tracking.Run() if until is not None else tracking.current().child(f"train {name}") as child:
        child.log_params(parameters)

        def train_on() -> Fitted:
            return fit(
                module,
                batches,
                Hardware(**hardware.model_dump(exclude={"threads"})),
                work.folder,
                training.checkpoint_every_steps,
                child,
                training.observe_every_steps,
                draw,
                {step: partial(_save, path, replace(header, step=step)) for step, path in kept.items()},
                until,
            )

        def run() -> dict[str, Any]:
            fitted = train_on()
            StoredNetwork(module.ema.module, header).save(finished)
            return {"losses": fitted.losses, "seconds": fitted.seconds}

        if until is not None:
            if not kept[until].is_file():
                train_on()
            return [StoredNetwork.load(path) for step, path in kept.items() if step <= until], {}, {}
        made_before = header.step if work.remembers(RESULT, finished) else newest_step(work.folder)
        result = work.remember(RESULT, run, finished)
        for step, loss in result["losses"]:
            if step <= made_before:
                child.log_metrics({"loss": loss}, step)
        child.log_metrics({"seconds": result["seconds"]}, steps)
    networks = [StoredNetwork.load(path) for path in (*kept.values(), finished)]
    curve = {"losses": result["losses"], "training_gmacs": training_gmacs(networks[-1])}
    return networks, curve, {"seconds": result["seconds"]}


def training_work(
    name: str,
    header: NetworkHeader,
    train: Examples,
    hardware: HardwareSettings,
    inputs: Mapping[str, str],
    work_folder: Path,
    keep_at_steps: Sequence[int] = (),
    look: bool = False,
) -> WorkDir:
    """Where a training keeps what it has done; look: see `WorkDir`."""
    parameters, made_from = _parameters(header, hardware, keep_at_steps), {"train": train.sha256, **inputs}
    return WorkDir(work_folder, f"train_{name}", parameters, made_from, CODE, look=look)


def _parameters(header: NetworkHeader, hardware: HardwareSettings, keep_at_steps: Sequence[int]) -> dict[str, Any]:
    of_some = {
        "exit_schedule": header.exit_schedule,
        "stage_edges": header.stage_edges,
        "keep_at_steps": list(keep_at_steps),
    }
    return {
        "kind": header.kind,
        "architecture": header.architecture,
        "timestep_range": header.timestep_range,
        "steps": header.step,
        "training": {
            **{key: value for key, value in header.training.items() if key not in WATCHING},
            "hardware": hardware.of_training,
        },
        **{name: value for name, value in of_some.items() if value},
    }


def training_labels(train: Examples, training: Training) -> dict[str, Any]:
    """What batches need of labels; nothing for unconditional networks."""
    if training.label_dropout is None:
        return {}
    return {"labels": train.labels, "label_dropout": training.label_dropout, "null_label": train.classes}


def sample_grid(denoiser: Denoiser, noise: NoiseSchedule, train: Examples, seed: int, device: torch.device) -> Tensor:
    """20 images as uint8, by which a training is watched."""
    solver = Solver("ddim", min(20, noise.timesteps))
    drawn = sample(denoiser, solver, noise, train.shape_chw, range(20), seed, 20, device).images
    return train.to_images(drawn, device)


def _save(path: Path, header: NetworkHeader, averaged: nn.Module) -> None:
    StoredNetwork(averaged, header).save(path)


def training_gmacs(stored: StoredNetwork) -> float:
    """Cost of a whole training: forward, and backward twice that, unless the header knows better."""
    header = stored.header
    step_macs = header.step_macs
    if step_macs is None:
        assert isinstance(stored.module, Backbone)
        step_macs = 3 * stored.module.macs
    batch_images: int = header.training["batch_images"]
    return header.step * batch_images * step_macs / 1e9
