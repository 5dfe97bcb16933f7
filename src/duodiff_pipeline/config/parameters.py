"""The whole tree, and what its sections demand of each other."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from ..errors import InputError
from ..networks.exit_schedule import ExitSchedule
from ..training.batches import stage_ranges
from .analysis import ExitStatistics, LossGap, TimestepClustering
from .ase import Ase
from .data import DataPreparation, MetricReference
from .evaluation import Evaluation
from .hardware import HardwareSettings
from .multistage import Multistage
from .search import SwitchCurves, SwitchSearch
from .settings import Settings
from .shared import Noise, Sampling
from .training import Backbone, EarlyExit, Stage, Training

ROLES = ("shallow", "middle", "deep", "duodiff", "reversed")  # in records and figures, of all-timestep networks
BackboneName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]


class Parameters(Settings):
    """The whole tree."""

    seed: int = Field(ge=0, lt=2**32, description="key of the initial weights and of the training of every network")
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
    ase: Ase | None = Field(description="null: there is none")
    multistage: Multistage | None = Field(description="comparison of multistage networks; null: none")
    switch_search: SwitchSearch
    switch_curves: SwitchCurves
    evaluation: Evaluation

    @model_validator(mode="after")
    def _names_exist(self) -> "Parameters":
        for taken, by in (("early_exits", "early_exit"), ("ase", "stage_training")):
            if taken in self.backbones:
                raise ValueError(f"backbones: {taken} is the name of what the pipeline {by} trains")
        side = None if self.data_preparation.autoencoder else self.data_preparation.image_size
        for name, backbone in self.backbones.items():
            if side is not None and side % backbone.patch:
                raise ValueError(
                    f"backbones.{name}: patch {backbone.patch} does not divide data_preparation.image_size {side}"
                )
        self._require_multistage()
        stages = {name: backbone.stage for name, backbone in self.backbones.items() if backbone.stage is not None}
        named = [
            *((f"backbones.{name}.stage.teacher is", stage.teacher) for name, stage in stages.items()),
            ("early_exit.backbone is", self.early_exit.backbone),
            *(("switch_search.backbones names", name) for name in self.switch_search.backbones),
            ("evaluation.middle is", self.evaluation.middle),
            ("ase.backbone is", self.ase.backbone if self.ase else None),
        ]
        for key, wanted in named:
            if wanted is not None and wanted not in self.backbones:
                raise ValueError(f"{key} {wanted!r}, but the backbones are {sorted(self.backbones)}")
        stages_by = {"switch_search.backbones": len(self.switch_search.backbones)}
        if self.multistage and (searched := self.multistage.searched):
            decoders = self.multistage.networks[searched].decoder_widths
            stages_by[f"multistage.networks.{searched}"] = len(decoders)
        for key in ("nodes", "gradient_nodes"):
            for by, most in stages_by.items():
                if most > (nodes := getattr(self.timestep_clustering, key)):
                    raise ValueError(f"timestep_clustering.{key} is {nodes}, too few for the {most} stages of {by}")
        self._require_stages(stages)
        if self.ase is not None:
            self._require_exit_schedule(self.ase)
        self._require_guidance()
        self._require_equal_shares()
        self._require_latents()
        counted = {
            "exit_statistics.solver.steps": [self.exit_statistics.solver.steps],
            "switch_search.steps": self.switch_search.steps,
            "switch_curves.steps": self.switch_curves.steps,
            "evaluation.solver.steps": [self.evaluation.solver.steps],
            "timestep_clustering.nodes": [self.timestep_clustering.nodes],
            "timestep_clustering.gradient_nodes": [self.timestep_clustering.gradient_nodes],
            **({"ase.solvers.steps": [solver.steps for solver in self.ase.solvers]} if self.ase else {}),
            **({"multistage.sampling_steps": self.multistage.sampling_steps} if self.multistage else {}),
        }
        for key, counts in counted.items():
            if max(counts) > self.noise.timesteps:
                raise ValueError(f"{key} is {max(counts)}, but there are only {self.noise.timesteps} timesteps")
        edge_search = self.multistage.search if self.multistage else None
        chosen_with = {
            "switch_search.seed": self.switch_search.seed,
            "exit_statistics.seed": self.exit_statistics.seed,
            **({"multistage.search.seed": edge_search.seed} if edge_search else {}),
        }
        for key, seed in chosen_with.items():
            if seed in self.evaluation.seeds:
                raise ValueError(f"evaluation.seeds must be fresh: none may equal {key}, which is {seed}")
        return self

    def _require_equal_shares(self) -> None:
        """Raises ValueError where a batch of training cannot be cut into equal pieces for all processes."""
        images, shared = self.training.batch_images, self.hardware
        if images % (shared.devices * shared.gradient_accumulation):
            raise ValueError(
                f"training.batch_images is {images}, no multiple of hardware.devices {shared.devices} times "
                f"hardware.gradient_accumulation {shared.gradient_accumulation}"
            )

    @property
    def everywhere(self) -> list[str]:
        """The backbones searched over that learn all timesteps, noise to data: the first is the shallow one."""
        return [name for name in self.switch_search.backbones if self.backbones[name].stage is None]

    @property
    def first_stage(self) -> list[str]:
        """The backbones that learn only the stage they serve first in."""
        return [name for name, backbone in self.backbones.items() if backbone.stage is not None]

    def _require_multistage(self) -> None:
        """Raises ValueError where the comparison of multistage networks does not fit the rest."""
        if self.multistage is None:
            return
        for name, network in self.multistage.networks.items():
            key = f"multistage.networks.{name}"
            trained = {name, *(f"{name}_{seed}" for seed in self.multistage.seeds)}
            if trained & {*self.backbones, "early_exits", "ase"}:
                raise ValueError(f"{key}: another network has that name already")
            if not isinstance(network.edges, tuple):
                continue
            if not all(0 < edge < self.noise.timesteps for edge in network.edges):
                raise ValueError(f"{key}.edges {list(network.edges)} must lie within 0..{self.noise.timesteps}")
            if any(low >= high for low, high in stage_ranges(network.edges, self.noise.timesteps)):
                raise ValueError(f"{key}.edges {list(network.edges)} leave a stage without a whole timestep")

    def _require_exit_schedule(self, ase: Ase) -> None:
        """Raises ValueError where the exit schedule is none of its backbone's, or follows exits not collected."""
        if ase.threshold is not None and ase.threshold not in self.exit_statistics.thresholds:
            raise ValueError(
                f"ase.threshold is {ase.threshold:g}, none of exit_statistics.thresholds "
                f"{list(self.exit_statistics.thresholds)}"
            )
        if ase.threshold is not None and ase.backbone != self.early_exit.backbone:
            raise ValueError(
                f"ase.schedule is exit_statistics, but exits leave {self.early_exit.backbone!r}, not {ase.backbone!r}"
            )
        if ase.depths is not None:
            exit_depths = self.backbones[ase.backbone].architecture(self.backbones[ase.backbone].patch, 1).exit_depths
            try:
                ExitSchedule(ase.depths, self.noise.schedule()).require_fits(exit_depths)
            except InputError as error:
                raise ValueError(f"ase.depths: {error}") from error

    def _require_guidance(self) -> None:
        """Raises ValueError where guidance names no backbone, or needs a class for no label that is not trained."""
        guidance = self.sampling.guidance
        named = {*self.backbones, *(["ase"] if self.ase else [])}
        if isinstance(guidance, dict) and (unknown := sorted(guidance.keys() - named)):
            raise ValueError(f"sampling.guidance names {unknown[0]!r}, but the networks are {sorted(named)}")
        if set(self.sampling.guidance_by(named).values()) != {1} and not self.training.label_dropout:
            raise ValueError("sampling.guidance other than 1 needs training.label_dropout above 0")

    def _require_latents(self) -> None:
        """Raises ValueError where what is asked of latents is what they do not have, or of images what they do not."""
        autoencoder = self.data_preparation.autoencoder
        if autoencoder is not None and self.training.flip and not autoencoder.mirrored:
            raise ValueError(
                "training.flip needs the latents of mirrored images: data_preparation.autoencoder.mirrored"
            )
        if (autoencoder is not None) != (self.timestep_clustering.data_range == "latent"):
            raise ValueError(
                "timestep_clustering.data_range must be latent with data_preparation.autoencoder, and only there"
            )

    def _require_stages(self, stages: Mapping[str, Stage]) -> None:
        """Raises ValueError where a backbone of one stage would have to serve elsewhere."""
        for name, stage in stages.items():
            if name in ROLES:
                raise ValueError(
                    f"backbones.{name} has a stage, so it needs a name of its own: {', '.join(ROLES)} stand for "
                    "networks that learn all timesteps"
                )
            if stage.edge is not None and stage.edge > self.noise.timesteps - 1:
                raise ValueError(f"backbones.{name}.stage.edge is {stage.edge:g}, beyond {self.noise.timesteps - 1}")
        if len(set(self.switch_search.backbones) - stages.keys()) < 2:
            raise ValueError("switch_search.backbones must name two backbones that learn all timesteps")
        everywhere: dict[str, str | None] = {
            **{f"backbones.{name}.stage.teacher": stage.teacher for name, stage in stages.items()},
            "early_exit.backbone": self.early_exit.backbone,
            "evaluation.middle": self.evaluation.middle,
            "ase.backbone": self.ase.backbone if self.ase else None,
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
