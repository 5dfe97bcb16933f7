"""Sections of what is found out before any search."""

from typing import Annotated

from pydantic import Field

from ..analysis.optimal_denoiser import DataRange
from .settings import Distinct, Settings
from .shared import SolverSettings


class ExitStatistics(Settings):
    """Sampling with the adaptive denoiser to see where it exits."""

    thresholds: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Distinct] = Field(
        min_length=1, description="uncertainties at which to exit; 1 - those of AdaDiff's code, which are confidences"
    )
    solver: SolverSettings
    images: int = Field(ge=8, description="images sampled for each threshold")
    seed: int = Field(ge=0, description="key of their noise")


class TimestepClustering(Settings):
    """Candidate edges."""

    seed: int = Field(ge=0, description="key of all draws")
    draws: int = Field(ge=10, description="Monte-Carlo draws of the optimal-denoiser similarity")
    nodes: int = Field(ge=4, description="timesteps of the pairwise similarity matrix")
    node_draws: int = Field(ge=1, description="draws at every node of that matrix")
    data_range: DataRange = Field(
        description="of images: centred, [-1, 1], as networks see them; unit, [0, 1], as in the paper's scripts; "
        "latent: of latents, as networks see them"
    )
    images: int | None = Field(
        default=None,
        ge=2,
        description="training images, evenly spread, that the optimal denoisers know; null: all, which time is "
        "proportional to; of latents 4 bytes a number of each are held in memory",
    )
    etas: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="eta: largest difference of optimal denoisers that counts as equal, in units of noise"
    )
    alphas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        min_length=1, description="alpha: mean similarity a stage must keep"
    )
    gradient_nodes: int = Field(ge=4, description="timesteps of the gradient affinity; memory: a network for each")
    gradient_images: int = Field(ge=1, description="training images behind each of its gradients")


class LossGap(Settings):
    """The switch that errors on held-out images suggest."""

    images: int = Field(ge=8, description="held-out images")
    tolerance: float = Field(gt=0, lt=1, description="error that the shallow network may add, share of the deep one's")
    seed: int = Field(ge=0, description="key of their noise")
