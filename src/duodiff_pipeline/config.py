"""The typed parameters: every key of conf/*/parameters.yml, its meaning, unit and bounds.

The whole tree is validated before any node runs; what is unknown or out of bounds is refused.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .diffusion.noise import NoiseKind, NoiseSchedule
from .diffusion.solvers import History, Solver, SolverName
from .errors import InputError
from .images.decoding import Crop, Decoding, Filter, Mode
from .images.folder import Labels
from .networks.files import ExitVariant, StoredAs
from .networks.probes import ProbeName
from .networks.uvit import UViTConfig
from .training.optimisation import Optimisation

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class Settings(BaseModel):
    """Frozen; unknown keys are refused, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Tree = TypeVar("Tree", bound=Settings)


class Noise(Settings):
    """The training noise schedule."""

    kind: NoiseKind = Field(description="linear (Ho et al. 2020) or cosine (Nichol & Dhariwal 2021)")
    timesteps: int = Field(ge=2, le=100_000, description="T, number of training timesteps")

    @model_validator(mode="after")
    def _adds_noise(self) -> "Noise":
        _ = self.schedule().betas  # refuses a schedule that is none
        return self

    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(self.kind, self.timesteps)


class HardwareSettings(Settings):
    """Where the work runs."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field(
        description="Lightning's accelerator; sampling follows it"
    )
    devices: int = Field(ge=1, le=1, description="devices of one training")
    precision: Precision = Field(description="Lightning's precision of training")
    threads: int | None = Field(ge=1, description="CPU threads of PyTorch; null leaves its default")


class DataPreparation(Settings):
    """Where the images come from."""

    source: Literal["digits", "idx", "image_folder"] = Field(
        description="digits: embedded in scikit-learn; idx: a folder of the MNIST family; image_folder: of image files"
    )
    folder: str | None = Field(
        description="folder with the four IDX files, gzipped or not, or with image files; null for digits"
    )
    held_out_share: float = Field(gt=0, lt=1, description="share of images held out; IDX files bring their own split")
    image_size: int | None = Field(ge=4, le=1024, description="image_folder: side of the images made, pixels")
    crop: Crop | None = Field(
        description="image_folder: centre, as null, cuts out the largest square; none refuses what is not square"
    )
    resize_filter: Filter | None = Field(description="image_folder: Pillow's filter; null is lanczos")
    mode: Mode | None = Field(description="image_folder: colour, as null, makes 3 channels, grey 1")
    labels: Labels | None = Field(
        description="image_folder: subfolders, as null, makes each first-level one a class; none makes no classes"
    )

    @model_validator(mode="after")
    def _keys_belong_to_source(self) -> "DataPreparation":
        if (self.source == "digits") != (self.folder is None):
            raise ValueError("folder is needed for the sources idx and image_folder, and only there")
        own = ("image_size", "crop", "resize_filter", "mode", "labels")
        foreign = [key for key in own if getattr(self, key) is not None]
        if self.source != "image_folder" and foreign:
            raise ValueError(f"{foreign[0]} belongs to the source image_folder, not to {self.source}")
        if self.source == "image_folder" and self.image_size is None:
            raise ValueError("image_size is needed for the source image_folder: the side of the images made, pixels")
        return self

    def decoding(self) -> Decoding:
        """How files of an image_folder become images."""
        assert self.image_size is not None
        return Decoding(self.image_size, self.crop or "centre", self.resize_filter or "lanczos", self.mode or "colour")


class MetricReference(Settings):
    """The feature extractor, a classifier trained on the training split, and the floor."""

    features: int = Field(ge=2, le=4096, description="D, width of the penultimate layer")
    width: int = Field(ge=1, le=1024, description="channels of the first convolution")
    steps: int = Field(ge=1, description="training steps")
    batch_images: int = Field(ge=1, description="images a training step")
    learning_rate: float = Field(gt=0, description="Adam's first learning rate; a cosine takes it to 0")
    floor_repeats: int = Field(ge=2, description="random training subsets whose distance makes the floor")


class Stage(Settings):
    """The noisy end of the timesteps, where a backbone of its own serves first."""

    edge: float | None = Field(
        gt=0, description="timestep at which it ends; null: where the loss gap of most steps suggests the switch"
    )
    margin: float = Field(ge=0, description="timesteps below the edge that it learns, too")
    teacher: str | None = Field(description="backbone whose predictions it learns; null: the noise itself")

    def lowest(self, suggested: Sequence[Mapping[str, Any]]) -> int:
        """The first timestep that belongs to it, margin included; suggested: the switches of the loss gap.

        Raises InputError where the loss gap suggests no switch.
        """
        edge = self.edge
        if edge is None:
            found = max(suggested, key=lambda switch: int(switch["steps"]))
            if not 0 < found["k"] < found["steps"]:
                where = "at once" if found["k"] == 0 else "never"
                raise InputError(f"the loss gap says to switch {where}: set the edge of the stage to a timestep")
            edge = float(found["timestep_edge"])
        return max(0, math.ceil(edge - self.margin))


class Backbone(Settings):
    """One U-ViT and how long it is trained."""

    patch: int = Field(ge=1, description="side of a patch, pixels")
    width: int = Field(ge=1, description="D, width of a token")
    depth: int = Field(ge=1, description="L, blocks, odd")
    heads: int = Field(ge=1, description="attention heads")
    steps: int = Field(ge=1, description="training steps")
    stage: Stage | None = Field(default=None, description="where it serves; null: it learns all timesteps")
    file: str | None = Field(default=None, description="network file to take, of the same data; null: it is trained")

    @model_validator(mode="after")
    def _can_be_built(self) -> "Backbone":
        self.architecture(self.patch, 1)
        return self

    def architecture(self, image_size: int, channels: int, **more: Any) -> UViTConfig:
        """The U-ViT for images of that size; raises InputError where the numbers do not fit together."""
        return UViTConfig(image_size, channels, self.patch, self.width, self.depth, self.heads, **more)


class Training(Settings):
    """How backbones and early exits are optimised."""

    batch_images: int = Field(ge=1, description="images a step")
    learning_rate: float = Field(gt=0, description="AdamW's peak learning rate")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up; a cosine to 0 follows")
    weight_decay: float = Field(ge=0, description="AdamW's weight decay")
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        description="AdamW's betas"
    )
    clip_norm: float = Field(gt=0, description="largest gradient norm")
    ema_decay: float = Field(ge=0, lt=1, description="decay a step of the averaged weights")
    predicts: Literal["noise", "image"] = Field(
        description="what the networks' last layer puts out; the noise is derived from it"
    )
    min_snr_gamma: float | None = Field(
        gt=0, description="gamma of min-SNR loss weights (arXiv 2303.09556); null weighs all timesteps alike"
    )
    flip: bool = Field(description="mirror images at random")
    stored_as: StoredAs = Field(description="precision of the weights in network files; they compute in float32")
    checkpoint_every_steps: int = Field(ge=1, description="steps between checkpoints")
    observe_every_steps: int = Field(ge=1, description="steps between points of the loss curve and sample grids")

    def optimisation(self, steps: int) -> Optimisation:
        return Optimisation(
            steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=min(self.warmup_steps, steps - 1),
            weight_decay=self.weight_decay,
            adam_betas=self.adam_betas,
            clip_norm=self.clip_norm,
            ema_decay=self.ema_decay,
            min_snr_gamma=self.min_snr_gamma,
        )


class EarlyExit(Settings):
    """AdaDiff's early exits from a backbone."""

    backbone: str = Field(description="the backbone that gets early exits")
    variant: ExitVariant = Field(
        description="duodiff: as DuoDiff re-implemented AdaDiff, a head and a probe before every block of the frozen "
        "backbone; authors: as AdaDiff's authors' code does it, probes after every block of a fine-tuned one, whose "
        "own output layers are the head"
    )
    probe: ProbeName = Field(
        description="linear or attention; linear says one number an image for duodiff, one a pixel for authors"
    )
    patience: int | None = Field(
        ge=0, description="hits that an image passes below the middle block; null: 0 for duodiff, 1 for authors"
    )
    steps: int = Field(ge=1, description="training steps")

    @property
    def exit_patience(self) -> int:
        """As given, or as the variant's own code has it."""
        return {"duodiff": 0, "authors": 1}[self.variant] if self.patience is None else self.patience


class SolverSettings(Settings):
    """A solver by name and number of steps."""

    name: SolverName = Field(description="which solver; with its order and kind, see diffusion.solvers.Solver")
    steps: int = Field(ge=1, description="S, solver steps: timesteps visited")
    eta: float = Field(default=0.0, ge=0, le=1, description="noise of ddim; 0 is deterministic")

    @model_validator(mode="after")
    def _is_one(self) -> "SolverSettings":
        self.solver()
        return self

    def solver(self) -> Solver:
        return Solver(self.name, self.steps, self.eta)


class Sampling(Settings):
    """How images are generated everywhere."""

    micro_batch_images: int = Field(ge=1, description="images sampled at once, part of every record")


class ExitStatistics(Settings):
    """Sampling with the adaptive denoiser to see where it exits."""

    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        min_length=1, description="uncertainties at which to exit; 1 - those of AdaDiff's code, which are confidences"
    )
    solver: SolverSettings
    images: int = Field(ge=8, description="images sampled for each threshold")
    seed: int = Field(ge=0, description="key of their noise")

    @model_validator(mode="after")
    def _thresholds_differ(self) -> "ExitStatistics":
        if len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError("thresholds repeat")
        return self


class TimestepClustering(Settings):
    """Candidate edges."""

    draws: int = Field(ge=10, description="Monte-Carlo draws of the optimal-denoiser similarity")
    nodes: int = Field(ge=4, description="timesteps of the pairwise similarity matrix")
    node_draws: int = Field(ge=1, description="draws at every node of that matrix")
    etas: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="eta: largest difference that counts as equal, in the data range [-1, 1]"
    )
    alphas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        min_length=1, description="alpha: mean similarity a stage must keep"
    )


class SwitchCurves(Settings):
    """FID of every single switch between the shallow and the deep network."""

    solver: SolverName = Field(description="solver of all curves")
    history: History = Field(
        description="what becomes of a multistep solver's history at an edge: carried over it or dropped"
    )
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="numbers of solver steps; each has a curve of its own"
    )
    controls: int = Field(ge=0, description="switches of a curve, evenly spread, that get controls of their cost")

    @model_validator(mode="after")
    def _steps_differ(self) -> "SwitchCurves":
        if len(set(self.steps)) < len(self.steps):
            raise ValueError("steps repeat")
        self.solvers()
        return self

    def solvers(self) -> list[Solver]:
        return [Solver(self.solver, steps, history=self.history) for steps in self.steps]


class LossGap(Settings):
    """The switch that errors on held-out images suggest."""

    images: int = Field(ge=8, description="held-out images")
    tolerance: float = Field(gt=0, lt=1, description="error that the shallow network may add, share of the deep one's")
    seed: int = Field(ge=0, description="key of their noise")


class SwitchSearch(Settings):
    """The Optuna study over who serves, switches, edges, solver and steps."""

    n_trials: int = Field(ge=1, description="trials in all; a larger number extends the study")
    images: int | None = Field(ge=2, description="images a trial; null takes as many as are held out")
    seed: int = Field(ge=0, description="key of the noise all trials share, and of the sampler")
    solvers: tuple[SolverName, ...] = Field(min_length=1, description="solvers to choose from")
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="numbers of solver steps to choose from"
    )
    history: tuple[History, ...] = Field(
        min_length=1,
        description="what becomes of a multistep solver's history at an edge, to choose from: carried, dropped",
    )
    backbones: tuple[str, ...] = Field(
        min_length=2,
        description="backbones in the order in which they may serve, noise to data: of those that learn all timesteps "
        "the first is the shallow one, the last the deep one; a schedule takes any of them",
    )

    @model_validator(mode="after")
    def _backbones_differ(self) -> "SwitchSearch":
        if len(set(self.backbones)) < len(self.backbones):
            raise ValueError(f"backbones repeat in {list(self.backbones)}: each stage needs another one")
        return self

    @model_validator(mode="after")
    def _solvers_exist(self) -> "SwitchSearch":
        solvers = [Solver(name, steps) for name in self.solvers for steps in self.steps]
        if len(set(self.history)) < len(self.history):
            raise ValueError("history repeats")
        if "dropped" in self.history and not any(solver.has_history for solver in solvers):
            raise ValueError(f"history cannot be dropped: none of {list(self.solvers)} is a multistep solver")
        return self


class Evaluation(Settings):
    """The final measurement on fresh seeds."""

    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=5, description="one seed a block of images")
    images: int | None = Field(ge=2, description="images a block; null takes as many as are held out")
    solver: SolverSettings
    schedules: int = Field(ge=1, description="schedules of the search's front to evaluate")
    exit_thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        description="AdaDiff thresholds to evaluate, uncertainties as those of exit_statistics"
    )
    middle: str | None = Field(description="backbone of the control of middle depth, or null")
    grid_images: int = Field(ge=1, description="images of a sample grid")

    @model_validator(mode="after")
    def _seeds_differ(self) -> "Evaluation":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds repeat: blocks must be disjoint")
        return self


BackboneName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]


class Parameters(Settings):
    """The whole tree."""

    seed: int = Field(ge=0, lt=2**32, description="key of the split, of weights and of training")
    hardware: HardwareSettings
    noise: Noise
    sampling: Sampling
    data_preparation: DataPreparation
    metric_reference: MetricReference
    training: Training
    backbones: dict[BackboneName, Backbone] = Field(min_length=2)
    early_exit: EarlyExit
    exit_statistics: ExitStatistics
    timestep_clustering: TimestepClustering
    loss_gap: LossGap
    switch_search: SwitchSearch
    switch_curves: SwitchCurves
    evaluation: Evaluation

    @model_validator(mode="after")
    def _names_exist(self) -> "Parameters":
        if "early_exits" in self.backbones:
            raise ValueError("backbones: early_exits is the name of what the pipeline early_exit trains")
        side = self.data_preparation.image_size
        for name, backbone in self.backbones.items():
            if side is not None and side % backbone.patch:
                raise ValueError(
                    f"backbones.{name}: patch {backbone.patch} does not divide data_preparation.image_size {side}"
                )
        stages = {name: backbone.stage for name, backbone in self.backbones.items() if backbone.stage is not None}
        named = [
            *((f"backbones.{name}.stage.teacher is", stage.teacher) for name, stage in stages.items()),
            ("early_exit.backbone is", self.early_exit.backbone),
            *(("switch_search.backbones names", name) for name in self.switch_search.backbones),
            ("evaluation.middle is", self.evaluation.middle),
        ]
        for key, wanted in named:
            if wanted is not None and wanted not in self.backbones:
                raise ValueError(f"{key} {wanted!r}, but the backbones are {sorted(self.backbones)}")
        if (most := len(self.switch_search.backbones)) > self.timestep_clustering.nodes:
            raise ValueError(
                f"timestep_clustering.nodes is {self.timestep_clustering.nodes}, too few for the {most} stages of "
                "switch_search.backbones"
            )
        self._require_stages(stages)
        counted = {
            "exit_statistics.solver.steps": [self.exit_statistics.solver.steps],
            "switch_search.steps": self.switch_search.steps,
            "switch_curves.steps": self.switch_curves.steps,
            "evaluation.solver.steps": [self.evaluation.solver.steps],
            "timestep_clustering.nodes": [self.timestep_clustering.nodes],
        }
        for key, counts in counted.items():
            if max(counts) > self.noise.timesteps:
                raise ValueError(f"{key} is {max(counts)}, but there are only {self.noise.timesteps} timesteps")
        if set(self.evaluation.seeds) & {self.switch_search.seed, self.exit_statistics.seed}:
            raise ValueError(
                "evaluation.seeds must be fresh: none may equal switch_search.seed or exit_statistics.seed"
            )
        return self

    @property
    def everywhere(self) -> list[str]:
        """The backbones searched over that learn all timesteps, noise to data: the first is the shallow one."""
        return [name for name in self.switch_search.backbones if self.backbones[name].stage is None]

    @property
    def first_stage(self) -> list[str]:
        """The backbones that learn only the stage they serve first in."""
        return [name for name, backbone in self.backbones.items() if backbone.stage is not None]

    def _require_stages(self, stages: Mapping[str, Stage]) -> None:
        """Raises ValueError where a backbone of one stage would have to serve elsewhere."""
        for name, stage in stages.items():
            if stage.edge is not None and stage.edge >= self.noise.timesteps:
                raise ValueError(f"backbones.{name}.stage.edge is {stage.edge:g}, not below {self.noise.timesteps}")
        if len(set(self.switch_search.backbones) - stages.keys()) < 2:
            raise ValueError("switch_search.backbones must name two backbones that learn all timesteps")
        everywhere: dict[str, str | None] = {
            **{f"backbones.{name}.stage.teacher": stage.teacher for name, stage in stages.items()},
            "early_exit.backbone": self.early_exit.backbone,
            "evaluation.middle": self.evaluation.middle,
        }
        for key, wanted in everywhere.items():
            if wanted in stages:
                raise ValueError(f"{key} is {wanted!r}, which learns only its own stage")


class Globals(Settings):
    """The keys of conf/*/globals.yml."""

    experiment: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="names the folder below each layer of data/"
    )
    duration: str = Field(description="of a whole run, told beforehand")


def validate(raw: dict[str, Any]) -> Parameters:
    """The typed tree; raises InputError with one line that names the first wrong key and what is allowed."""
    return _validated(Parameters, raw, "parameters")


def validate_globals(raw: dict[str, Any]) -> Globals:
    """As `validate` does for the parameters."""
    return _validated(Globals, raw, "globals")


def _validated(kind: type[Tree], raw: dict[str, Any], name: str) -> Tree:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first, *others = error.errors()
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            reason = f"unknown parameter; here stand {', '.join(_keys_beside(kind, first['loc']))}"
        else:
            reason = first["msg"].removeprefix("Value error, ") + (
                "" if first["type"] in ("missing", "value_error", "too_short") else f", not {first['input']!r}"
            )
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{name}: {f'{key}: ' if key else ''}{reason}{more}") from None


def _keys_beside(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed in the section of `model` that holds the key at `location`."""
    for part in location[:-1]:
        annotation = (
            model.model_fields[part].annotation if part in getattr(model, "model_fields", {}) else model.__args__[1]
        )
        model = annotation
    return sorted(model.model_fields)
