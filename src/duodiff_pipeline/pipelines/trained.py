"""What the training nodes share: one training in its work folder, as a network file, a loss curve and seconds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import tracking
from ..config import HardwareSettings, Noise, Training
from ..datasets.builders import BUILDERS
from ..images.pack import ImagePack
from ..networks.files import NetworkHeader, StoredNetwork
from ..workdir import WorkDir


def train_once(
    name: str,
    make: Callable[[Any], Any],
    header: Callable[[dict[str, Any]], NetworkHeader],
    train: ImagePack,
    training: Training,
    steps: int,
    macs_per_image: int,
    noise: Noise,
    hardware: HardwareSettings,
    seed: int,
    inputs: Mapping[str, str],
    work_folder: Path,
    draw: Callable[[nn.Module], Tensor] | None = None,
) -> tuple[StoredNetwork, dict[str, Any], dict[str, Any]]:
    """Train what `make` gives for its optimisation, unless the work folder has it already.

    header: makes the network file's header from what every training stamps on it; inputs: sha256 by name of what the
    training depends on beside the images. Returns the averaged network, its loss curve and the seconds of training.
    """
    from ..training.batches import StepBatches
    from ..training.fit import Hardware, fit
    from ..training.modules import Optimisation

    parameters = {
        "name": name,
        "steps": steps,
        "seed": seed,
        "noise": noise.model_dump(),
        "training": training.model_dump(mode="json"),
        "hardware": hardware.model_dump(),
    }
    optimisation = Optimisation(
        steps=steps,
        learning_rate=training.learning_rate,
        warmup_steps=min(training.warmup_steps, steps - 1),
        weight_decay=training.weight_decay,
        adam_betas=training.adam_betas,
        clip_norm=training.clip_norm,
        ema_decay=training.ema_decay,
        min_snr_gamma=training.min_snr_gamma,
    )
    module = make(optimisation)
    stamp = {"training": parameters, "step": steps, "data_sha256": train.sha256}
    stored_header = header(stamp)
    key = {**parameters, "architecture": stored_header.architecture}
    work = WorkDir(work_folder, f"train_{name}", key, {"train": train.sha256, **inputs}, ["diffusion", "images", "networks", "training"])
    finished = work.folder / "network.safetensors"

    def run() -> dict[str, Any]:
        child = tracking.current().child(f"train {name}")
        child.log_params(key)
        batches = StepBatches(train.images, noise.timesteps, training.batch_images, steps, seed, training.flip)
        fitted = fit(
            module,
            batches,
            Hardware(hardware.accelerator, hardware.devices, hardware.precision),
            work.folder,
            training.checkpoint_every_steps,
            child,
            training.observe_every_steps,
            draw,
        )
        StoredNetwork(module.ema.module, stored_header).save(finished)
        child.log_metrics({"seconds": fitted.seconds}, steps)
        child.end()
        return {"losses": fitted.losses, "seconds": fitted.seconds}

    result = work.remember("result", run)
    curve = {"losses": result["losses"], "training_gmacs": steps * training.batch_images * macs_per_image / 1e9}
    return StoredNetwork.load(finished, BUILDERS), curve, {"seconds": result["seconds"]}
