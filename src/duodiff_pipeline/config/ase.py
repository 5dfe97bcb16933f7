"""Section of ASE: a trained backbone, fine-tuned for an exit schedule."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..networks.exit_schedule import TableName
from ..networks.uvit import DropOrder
from ..training.optimisation import TimeWeighting
from .settings import Distinct, Settings
from .shared import SolverSettings


class Ase(Settings):
    """ASE (arXiv 2408.05927): one network that runs fewer of its blocks where there is more noise."""

    backbone: str = Field(description="trained backbone that it is fine-tuned from")
    schedule: Literal[TableName, "exit_statistics", "depths"] = Field(
        description="blocks that run at each timestep: demo is the published table, light and heavy are made to its "
        "pattern, all scaled to the backbone; exit_statistics follows where early exits leave; depths has its own key"
    )
    depths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        min_length=1, description="for schedule depths: blocks in equal bins of timesteps, data to noise, never rising"
    )
    threshold: float | None = Field(
        gt=0, lt=1, description="for schedule exit_statistics: the uncertainty, one of exit_statistics.thresholds"
    )
    dropped_first: DropOrder = Field(
        description="of a uvit, which out blocks are dropped first: outer, near the output, or inner, near the middle"
    )
    weighting: TimeWeighting = Field(
        description="lambda(t) of the loss: uniform, or equal_depths, by which all depths weigh alike together"
    )
    steps: int = Field(ge=1, description="training steps")
    learning_rate: float = Field(gt=0, description="AdamW's peak learning rate")
    ema_decay: float = Field(ge=0, lt=1, description="decay a step of the averaged weights, from the loaded ones on")
    solvers: Annotated[tuple[SolverSettings, ...], Distinct] = Field(
        min_length=1, description="with which it is evaluated, beside its backbone with the same solver and steps"
    )
    candidates: int = Field(ge=0, description="exit schedules, of least predicted error at their cost, searched over")

    @model_validator(mode="after")
    def _keys_belong_to_schedule(self) -> "Ase":
        for key, schedule in (("depths", "depths"), ("threshold", "exit_statistics")):
            if (getattr(self, key) is None) == (self.schedule == schedule):
                raise ValueError(f"{key} is needed for the schedule {schedule}, and only there")
        return self
