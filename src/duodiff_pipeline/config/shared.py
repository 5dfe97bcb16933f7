"""Sections that most nodes read: noise, sampling; and a solver as parameters name it."""

import math
from collections.abc import Iterable
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..diffusion.noise import NoiseKind, NoiseSchedule
from ..diffusion.sampling import SamplingPrecision
from ..diffusion.solvers import Solver, SolverName
from .settings import Settings


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


class Sampling(Settings):
    """How images are generated everywhere."""

    micro_batch_images: int = Field(ge=1, description="images sampled at once, part of every record")
    precision: SamplingPrecision = Field(
        default="float32", description="in which networks are evaluated, by autocast; part of every record"
    )
    guidance: float | dict[str, float] = Field(
        description="s of classifier-free guidance, eps_null + s (eps_label - eps_null), in all stages, or by the "
        "backbone that serves (1 for who is not named); 1 is the label alone, 0 no label, anything else costs twice"
    )

    @field_validator("guidance", mode="before")
    @classmethod
    def _are_scales(cls, guidance: Any) -> Any:
        for scale in guidance.values() if isinstance(guidance, dict) else [guidance]:
            if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < math.inf:
                raise ValueError(f"a scale is a number from 0 on, for all backbones or by name, not {scale!r}")
        return guidance

    def guidance_by(self, backbones: Iterable[str]) -> dict[str, float]:
        """s of every backbone."""
        if isinstance(self.guidance, dict):
            return {name: self.guidance.get(name, 1.0) for name in backbones}
        return dict.fromkeys(backbones, self.guidance)


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
