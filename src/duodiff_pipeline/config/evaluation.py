"""Section of the final measurement."""

from typing import Annotated

from pydantic import Field, model_validator

from ..metrics.against_reference import MoreMetric
from ..metrics.fid_infinity import FEWEST_IMAGES
from .settings import Distinct, Settings
from .shared import SolverSettings


class Evaluation(Settings):
    """The final measurement on fresh seeds."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Distinct] = Field(
        min_length=5, description="one seed a block of images"
    )
    images: int | None = Field(ge=2, description="images a block; null takes as many as are held out")
    more_metrics: Annotated[tuple[MoreMetric, ...], Distinct] = Field(
        description="measured beside FID, KID and memorisation, of the same features"
    )
    timed_batches: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Distinct] = Field(
        min_length=1, description="images drawn at once, for the seconds of the clock"
    )
    solver: SolverSettings
    schedules: int = Field(
        ge=1,
        description="schedules of the search's front that get controls of their cost; the whole front is evaluated",
    )
    exit_thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        description="AdaDiff thresholds to evaluate, uncertainties as those of exit_statistics"
    )
    middle: str | None = Field(description="backbone of the control of middle depth, or null")
    grid_images: int = Field(ge=1, description="images of a sample grid")

    @model_validator(mode="after")
    def _enough_images(self) -> "Evaluation":
        if "fid_infinity" in self.more_metrics and self.images is not None and self.images < FEWEST_IMAGES:
            raise ValueError(f"images is {self.images}, but fid_infinity needs at least {FEWEST_IMAGES} a block")
        return self
