"""Running a training with Lightning's Trainer: devices, precision, checkpoints, progress, resuming."""

import logging
import math
import pickle
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import InputError
from ..files import whole_file
from .batches import Batch, StepBatches
from .blocks import compile_blocks, recompute_blocks
from .modules import NoiseTraining
from .ranks import Observer, rank_of_world, run_ranks
from .shares import share_of

logger = logging.getLogger(__name__)

_MADE_BY_LIGHTNING = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step"}


@dataclass(frozen=True)
class Hardware:
    """Where a training runs, and how.

    accelerator, precision: Lightning's names; devices: processes that share every batch, each with a device of its own;
    gradient_accumulation: pieces in which each works through its share; gradient_checkpointing: `recompute_blocks`;
    compile: `compile_blocks`; channels_last: memory format of convolutions.
    """

    accelerator: str
    devices: int
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    compile: bool = False
    channels_last: bool = False

    @property
    def on_gpus(self) -> bool:
        return self.accelerator in ("auto", "gpu") and torch.cuda.is_available()


@dataclass(frozen=True)
class Fitted:
    """losses: (step, mean loss since the last entry); seconds: by the clock, of this run and those that it went on
    from, checkpoints and logging included; first_step: where this run began.
    """

    losses: list[tuple[int, float]]
    seconds: float
    first_step: int


def fit(
    module: NoiseTraining,
    batches: StepBatches,
    hardware: Hardware,
    folder: Path,
    checkpoint_every_steps: int,
    observer: Observer,
    observe_every_steps: int,
    draw: Callable[[nn.Module], Tensor] | None = None,
    keep: Mapping[int, Callable[[nn.Module], None]] | None = None,
    until: int | None = None,
) -> Fitted:
    """Train `module` for `len(batches)` steps, going on from the newest checkpoint in `folder` if there is one.

    until: a step to stop at, from which the same training may go on.

    draw: makes a grid of sample images (N, C, H, W) uint8 from the averaged weights, shown to the observer.
    keep: by step, what is done with the averaged weights then, before any checkpoint of that step.
    With several devices everything but the observer is pickled, draw and keep run in the process that writes the
    checkpoints, and losses are those of one device up to rounding; another number of devices may go on.
    Raises InputError, naming the step, where loss or weights are not finite, and where this machine lacks the hardware.
    """
    last = until or len(batches)
    watched = _Watched(observe_every_steps, len(batches), last, draw, folder, checkpoint_every_steps, keep or {})
    first_step = newest_step(folder)
    if hardware.devices == 1 or first_step >= last:
        return _train(module, batches, hardware, watched, observer)
    run_ranks(hardware.devices, hardware.on_gpus, _train, (module,), (batches, hardware, watched), observer)
    return replace(_train(module, batches, hardware, watched, observer), first_step=first_step)  # makes no step


@dataclass(frozen=True)
class _Watched:
    """What is done beside the steps, and how often."""

    every_steps: int
    steps: int
    last: int
    draw: Callable[[nn.Module], Tensor] | None
    folder: Path
    checkpoint_every_steps: int
    keep: Mapping[int, Callable[[nn.Module], None]]


def _train(
    module: NoiseTraining, batches: StepBatches, hardware: Hardware, watched: _Watched, observer: Observer | None
) -> Fitted:
    """The training of one process, alone or one of several, of which the first has the observer and writes files."""
    rank, count = rank_of_world()
    folder, first = watched.folder, rank == 0
    watch = _Watch(observer, watched)
    if hardware.channels_last:
        module.to(memory_format=torch.channels_last)
    if hardware.gradient_checkpointing:
        recompute_blocks(module.raw)
    if hardware.compile:
        for network in (module.raw, *module.frozen):
            compile_blocks(network)
    module.pieces = hardware.gradient_accumulation
    checkpoints = ModelCheckpoint(
        folder,
        filename="{step}",
        every_n_train_steps=watched.checkpoint_every_steps,
        auto_insert_metric_name=False,
        save_top_k=-1,  # `_WholeCheckpoints` removes the older ones
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on workers and loggers that does not apply here
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        trainer = _trainer(
            accelerator=hardware.accelerator,
            devices=[rank] if hardware.on_gpus else 1,
            precision=hardware.precision,
            max_steps=watched.last,
            gradient_clip_val=module.optimisation.clip_norm,
            callbacks=[checkpoints, watch] if first else [watch],
            plugins=_WholeCheckpoints(),
            logger=False,
            enable_checkpointing=first,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        newest = next(reversed(_checkpoints(folder)), None)
        trainer.fit(module, _Steps(batches, rank, count), ckpt_path=newest, weights_only=True)
        leaves = count > 1 or watched.last < len(batches)
        if leaves and first and newest_step(folder) < watched.last:
            trainer.save_checkpoint(folder / f"{watched.last}.ckpt")  # by which the weights leave this process
    return Fitted(watch.losses, watch.seconds, watch.first_step)


def _trainer(**options: Any) -> lightning.Trainer:
    """Raises InputError where this machine has no such accelerator, or no such precision on it."""
    try:
        trainer = lightning.Trainer(**options)
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"hardware: {' '.join(str(error).split())}") from error
    if trainer.precision != options["precision"]:  # Lightning takes another one, with a warning
        raise InputError(f"hardware: this accelerator has no precision {options['precision']}, but {trainer.precision}")
    return trainer


def _checkpoints(folder: Path) -> list[Path]:
    """Those of a training, which are named by their steps; the newest last."""
    return sorted((path for path in folder.glob("*.ckpt") if path.stem.isdigit()), key=lambda path: int(path.stem))


def newest_step(folder: Path) -> int:
    """The step at which a training in `folder` goes on; 0 where it begins."""
    return max((int(path.stem) for path in _checkpoints(folder)), default=0)


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all, the newest alone.

    Lightning's own are moved from another file system, if need be, and one that was resumed from stays for ever. What
    was damaged is noticed before it is loaded, and nothing in it is executed: only tensors and plain values load.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with whole_file(Path(path)) as beside, beside.open("wb") as file:  # by a path, torch loses why it fails
            torch.save(checkpoint, file)
        for older in _checkpoints(Path(path).parent)[:-1]:
            older.unlink()

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Raises InputError, naming the file, where it is damaged or none that a training made."""
        try:
            with zipfile.ZipFile(path) as archive:
                intact = archive.testzip() is None  # torch itself does not look at the check sums
            checkpoint = super().load_checkpoint(path, *arguments, **options) if intact else None
        except (OSError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile):
            checkpoint = None
        if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _MADE_BY_LIGHTNING:
            raise InputError(f"{path} is damaged or no checkpoint of this training: delete it, and it begins anew")
        return checkpoint


class _Steps(lightning.LightningDataModule):
    """This process's share of the batches from the step on at which the trainer stands, which a resume moves on."""

    def __init__(self, batches: StepBatches, rank: int, count: int) -> None:
        super().__init__()
        self.shares, self.steps = _Shares(batches, rank, count), len(batches)

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        steps_left = _StepsLeft(self.trainer.global_step, self.steps)
        return DataLoader(self.shares, batch_size=None, sampler=steps_left)


class _Shares(Dataset[Batch]):
    """The same part of every batch."""

    def __init__(self, batches: StepBatches, rank: int, count: int) -> None:
        self.batches, self.rank, self.count = batches, rank, count

    def __getitem__(self, step: int) -> Batch:
        return share_of(self.batches[step], self.rank, self.count)


class _StepsLeft(Sampler[int]):
    """The steps that are left to make. Its length is that of the whole training, within which Lightning counts.

    With the length of what is left, Lightning ends a resumed epoch early and starts over at the first of these steps.
    """

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps = first, steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.steps))

    def __len__(self) -> int:
        return self.steps


class _Watch(Callback):
    """Logs the mean loss, the time left and sample grids, and stops at a loss that is not finite.

    So it does before weights that are not finite are kept: the loss shows them only at the next step.
    """

    def __init__(self, observer: Observer | None, watched: _Watched) -> None:
        self.observer, self.watched = observer, watched
        self.losses: list[tuple[int, float]] = []
        self.first_step = 0
        self._sum, self._count = 0.0, 0
        self._seconds_before = 0.0
        self._started: float | None = None  # never, where a checkpoint holds the last step

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "sum": self._sum, "count": self._count, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self._sum, self._count = state_dict["losses"], state_dict["sum"], state_dict["count"]
        self._seconds_before = state_dict["seconds"]

    @property
    def seconds(self) -> float:
        """Of this process, and of those before it up to the checkpoint that this one goes on from."""
        here = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._seconds_before + here

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.first_step, self._started = trainer.global_step, time.perf_counter()
        if self.first_step:
            logger.info("going on from step %d of %d", self.first_step, self.watched.steps)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, loss = trainer.global_step, float(outputs["loss"])
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at training step {step}")
        watched, steps = self.watched, self.watched.steps
        kept = step % watched.checkpoint_every_steps == 0 or step == steps
        if kept and not all(bool(weights.isfinite().all()) for weights in pl_module.raw.parameters()):
            raise self._diverged(f"the weights are not finite after training step {step}")
        if self.observer is None:
            return
        if step in watched.keep:
            watched.keep[step](pl_module.ema.module)
        self._sum, self._count = self._sum + loss, self._count + 1
        if step % watched.every_steps and step != steps:
            return
        self.losses.append((step, self._sum / self._count))
        left = (self.seconds - self._seconds_before) / (step - self.first_step) * (watched.last - step)
        logger.info("step %d of %d, loss %.4f, about %.0f s left", step, steps, self.losses[-1][1], left)
        self._sum, self._count = 0.0, 0
        self.observer.log_metrics({"loss": self.losses[-1][1]}, step)
        if watched.draw is not None:
            self.observer.log_images("samples", watched.draw(pl_module.ema.module), step)

    def _diverged(self, what: str) -> InputError:
        newest = next(reversed(_checkpoints(self.watched.folder)), None)
        kept = f"{newest} keeps the weights of step {newest.stem}" if newest else "no weights had been kept yet"
        return InputError(f"{what}: lower the learning rate; {kept}")
