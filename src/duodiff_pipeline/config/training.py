"""Sections of what is trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..errors import InputError
from ..networks.dit import DiTConfig
from ..networks.files import BackboneKind, ExitVariant, StoredAs
from ..networks.preconditioning import Predicts
from ..networks.probes import ProbeName
from ..networks.transformer import TransformerConfig
from ..networks.uvit import UViTConfig
from ..training.optimisation import Optimisation, RateSchedule
from .settings import Settings


class Stage(Settings):
    """The noisy end of the timesteps, where a backbone of its own serves first."""

    edge: float | None = Field(
        gt=0, description="timestep at which it ends; null: where the loss gap of most steps suggests the switch"
    )
    margin: float = Field(ge=0, description="timesteps below the edge that it learns, too; less than the edge")
    teacher: str | None = Field(description="backbone whose predictions it learns; null: the noise itself")

    @model_validator(mode="after")
    def _is_no_whole(self) -> "Stage":
        if self.edge is not None:
            self.lowest([])
        return self

    def lowest(self, suggested: Sequence[Mapping[str, Any]]) -> int:
        """The first timestep that belongs to it, margin included; suggested: the switches of the loss gap.

        Raises InputError where the loss gap suggests no switch, and where the margin reaches timestep 0.
        """
        edge = self.edge
        if edge is None:
            found = max(suggested, key=lambda switch: int(switch["steps"]))
            edge = float(found["timestep_edge"])
            if not (found["k"] and edge > 0):
                where = "never" if found["k"] else "at once"
                raise InputError(f"the loss gap says to switch {where}: set the edge of the stage to a timestep")
        if edge <= self.margin:
            raise InputError(
                f"a margin of {self.margin:g} below timestep {edge:g} leaves none out: a network of all timesteps has "
                "no stage"
            )
        return math.ceil(edge - self.margin)


class FromCheckpoint(Settings):
    """A checkpoint in the official layout of U-ViT, bare or as DuoDiff's code wraps it; see `networks.official`."""

    path: str = Field(description="the file")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="what that of the file must be")
    timestep_scale: float = Field(
        default=1.0, gt=0, description="what a timestep is multiplied by; 0.001 for networks trained on normalised time"
    )
    predicts: Literal["noise", "image"] = Field(default="noise", description="what its last layer puts out")
    steps: int = Field(ge=1, description="training steps it has behind it, for the cost of training")
    batch_images: int = Field(ge=1, description="images a step of that training")


class Backbone(Settings):
    """One network and how long it is trained."""

    kind: BackboneKind = Field(default="uvit", description="uvit, with long skips, or dit, without, steered by adaLN")
    patch: int = Field(ge=1, description="side of a patch, pixels")
    width: int = Field(ge=1, description="D, width of a token")
    depth: int = Field(ge=1, description="L, blocks; odd of a uvit")
    heads: int = Field(ge=1, description="attention heads")
    steps: int = Field(ge=1, description="training steps")
    stage: Stage | None = Field(default=None, description="where it serves; null: it learns all timesteps")
    file: str | None = Field(default=None, description="network file to take, of the same data; null: it is trained")
    from_checkpoint: FromCheckpoint | None = Field(
        default=None, description="foreign checkpoint to take; null: it is trained"
    )

    @model_validator(mode="after")
    def _can_be_built(self) -> "Backbone":
        if self.from_checkpoint and self.file:
            raise ValueError("file and from_checkpoint exclude each other")
        if self.from_checkpoint and self.stage:
            raise ValueError("stage and from_checkpoint exclude each other: a checkpoint learnt all timesteps")
        self.architecture(self.patch, 1)
        if self.file is not None and self.stage is not None and self.stage.edge is None:
            raise ValueError("the stage of a network from a file needs its edge")
        return self

    @property
    def taken_from(self) -> str | None:
        """The file of a network that is not trained here; None where it is."""
        return self.from_checkpoint.path if self.from_checkpoint else self.file

    def architecture(self, image_size: int, channels: int, **more: Any) -> TransformerConfig:
        """The network for images of that size; raises InputError where the numbers do not fit together."""
        config = DiTConfig if self.kind == "dit" else UViTConfig
        return config(image_size, channels, self.patch, self.width, self.depth, self.heads, **more)


class Training(Settings):
    """How backbones and early exits are optimised."""

    batch_images: int = Field(ge=1, description="images a step")
    learning_rate: float = Field(gt=0, description="AdamW's peak learning rate")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    rate_schedule: RateSchedule = Field(
        default="cosine", description="of the learning rate after the warm-up: cosine, to 0, or constant"
    )
    weight_decay: float = Field(ge=0, description="AdamW's weight decay")
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        description="AdamW's betas"
    )
    clip_norm: float | None = Field(gt=0, description="largest gradient norm; null: any")
    ema_decay: float = Field(ge=0, lt=1, description="decay a step of the averaged weights")
    predicts: Predicts = Field(
        description="what the networks' last layer puts out, the noise being derived from it; edm: what the "
        "preconditioning of Karras et al. 2022 takes, with its loss weights"
    )
    min_snr_gamma: float | None = Field(
        gt=0, description="gamma of min-SNR loss weights (arXiv 2303.09556); null weighs all timesteps alike"
    )
    label_dropout: float | None = Field(
        ge=0,
        lt=1,
        description="share of labels that a class-conditional network is trained without, for guidance; "
        "0 trains no class for none; null trains unconditional networks",
    )
    flip: bool = Field(description="mirror images at random")
    stored_as: StoredAs = Field(description="precision of the weights in network files; they compute in float32")
    checkpoint_every_steps: int = Field(ge=1, description="steps between checkpoints")
    observe_every_steps: int = Field(ge=1, description="steps between points of the loss curve and sample grids")

    @model_validator(mode="after")
    def _one_weight(self) -> "Training":
        if self.predicts == "edm" and self.min_snr_gamma is not None:
            raise ValueError("predicts edm brings loss weights of its own: set min_snr_gamma: null")
        return self

    def conditioning(self, classes: int) -> dict[str, Any]:
        """What `UViTConfig` says of labels, for images of that many classes; raises InputError where these are none."""
        if self.label_dropout is None:
            return {}
        if classes < 2:
            raise InputError("training.label_dropout must be null: the images have no classes")
        null_class = self.label_dropout > 0
        return {"num_classes": classes + null_class, "null_class": null_class}

    def optimisation(self, steps: int) -> Optimisation:
        return Optimisation(
            steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=min(self.warmup_steps, steps - 1),
            weight_decay=self.weight_decay,
            adam_betas=self.adam_betas,
            clip_norm=self.clip_norm,
            rate_schedule=self.rate_schedule,
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
