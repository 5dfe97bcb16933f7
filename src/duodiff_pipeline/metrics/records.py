"""The metric record: a value together with everything without which it means nothing."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from ..diffusion.sampling import SamplingPrecision

Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

LABEL_ACCURACY = "label_accuracy"

# What must agree before two values may be set side by side.
_COMPARABLE = ("name", "extractor_sha256", "reference_sha256", "n_reference", "n_generated")


class MetricRecord(BaseModel):
    """One metric of one denoiser under one schedule and solver.

    Raises ValueError (pydantic's) for unknown or missing fields, values that are not finite, an interval that does
    not hold the value, and k beyond nfe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="metric: fid, kid, fid_infinity, precision, recall, memorisation_features, memorisation_pixels or, "
        "of class-conditional networks, label_accuracy: the share that the classifier gives the label asked for"
    )
    value: FiniteFloat = Field(description="mean over the seed blocks, in the metric's unit")
    interval_low: FiniteFloat
    interval_high: FiniteFloat
    interval_method: str = Field(description="how the interval was made, with confidence and number of blocks")
    n_generated: Count = Field(description="generated images in each seed block: the n that the bias depends on")
    reference: Literal["held_out", "train", "published", "both"] = Field(
        default="held_out", description="what reference_sha256 is of; both: training and held-out images"
    )
    n_reference: Count | None = Field(description="real images in it; None of published statistics, which do not say")
    extractor: str = Field(description="name of the feature extractor, or pixels")
    extractor_sha256: Sha256 | None = Field(description="None for pixels, which are not extracted")
    reference_sha256: Sha256
    denoiser: str = Field(description="deep, shallow, duodiff…, adadiff…, control…")
    edges: tuple[FiniteFloat, ...] = Field(description="timesteps between stages, noise to data; empty for one stage")
    solver: str
    solver_conventions: str = Field(description="spacing of the timesteps and clipping: libraries differ in them")
    steps: Count = Field(description="solver steps")
    nfe: Count = Field(description="network evaluations an image")
    k: int | None = Field(
        ge=0, description="evaluations served by the first of two stages; None of one stage, and of more, see edges"
    )
    gmacs: FiniteFloat = Field(ge=0, description="1e9 multiply-accumulates an image, all evaluations together")
    micro_batch_images: Count = Field(description="images in each batch that the sampler runs")
    precision: SamplingPrecision = Field(default="float32", description="in which the networks were evaluated")
    weights: Literal["raw", "ema"]
    guidance: tuple[FiniteFloat, ...] | None = Field(
        default=None,
        description="scale of classifier-free guidance of every stage, where image i has label i mod C; None of "
        "unconditional networks",
    )
    seeds: tuple[int, ...] = Field(description="of the seed blocks, in their order")
    expected: FiniteFloat | None = Field(default=None, description="value by chance alone; None where there is none")
    warnings: tuple[str, ...] = Field(default=(), description="what a reader must know before trusting the value")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.interval_low <= self.value <= self.interval_high:
            raise ValueError(f"the interval {self.interval_low}..{self.interval_high} does not hold {self.value}")
        if self.k is not None and self.k > self.nfe:
            raise ValueError(f"switch k {self.k} is beyond the {self.nfe} evaluations")
        return self


def require_comparable(a: MetricRecord, b: MetricRecord) -> None:
    """Raise ValueError, naming the first field that differs, unless a and b measure the same thing the same way."""
    if reason := incomparable(a, b):
        raise ValueError(f"records of {a.denoiser} and {b.denoiser} do not compare: {reason}")


def incomparable(a: MetricRecord, b: MetricRecord) -> str | None:
    """Why `require_comparable` refuses: the first field that differs."""
    for field in _COMPARABLE:
        left, right = getattr(a, field), getattr(b, field)
        if left != right:
            return f"{field} is {left} and {right}"
    return None


def few_images_warnings(n_generated: int, n_reference: int | None, n_features: int) -> tuple[str, ...]:
    """What `MetricRecord.warnings` must say where a covariance of n_features features comes from too few images."""
    return tuple(
        f"{n} {whose} images for {n_features} features: their covariance is singular and the distance far too large"
        for n, whose in ((n_generated, "generated"), (n_reference, "reference"))
        if n is not None and n < n_features
    )
