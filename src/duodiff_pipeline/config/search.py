"""Sections of the search, and of every single switch."""

from typing import Annotated

from pydantic import Field, model_validator

from ..diffusion.solvers import History, Solver, SolverName
from .settings import Distinct, Settings

Steps = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Distinct]


class SwitchSearch(Settings):
    """The Optuna study over who serves, switches, edges, solver and steps."""

    n_trials: int = Field(ge=1, description="trials in all; a larger number extends the study")
    images: int | None = Field(ge=2, description="images a trial; null takes as many as are held out")
    seed: int = Field(ge=0, description="key of the noise all trials share, and of the sampler")
    solvers: Annotated[tuple[SolverName, ...], Distinct] = Field(min_length=1, description="solvers to choose from")
    steps: Steps = Field(min_length=1, description="numbers of solver steps to choose from")
    history: Annotated[tuple[History, ...], Distinct] = Field(
        min_length=1,
        description="what becomes of a multistep solver's history at an edge, to choose from: carried, dropped",
    )
    backbones: Annotated[tuple[str, ...], Distinct] = Field(
        min_length=2,
        description="backbones in the order in which they may serve, noise to data: of those that learn all timesteps "
        "the first is the shallow one, the last the deep one; a schedule takes any of them",
    )

    @model_validator(mode="after")
    def _solvers_exist(self) -> "SwitchSearch":
        solvers = [Solver(name, steps) for name in self.solvers for steps in self.steps]
        if "dropped" in self.history and not any(solver.has_history for solver in solvers):
            raise ValueError(f"history cannot be dropped: none of {list(self.solvers)} is a multistep solver")
        return self


class SwitchCurves(Settings):
    """FID of every single switch between the shallow and the deep network."""

    solver: SolverName = Field(description="solver of all curves")
    history: History = Field(
        description="what becomes of a multistep solver's history at an edge: carried over it or dropped"
    )
    steps: Steps = Field(min_length=1, description="numbers of solver steps; each has a curve of its own")
    controls: int = Field(ge=0, description="switches of a curve, evenly spread, that get controls of their cost")

    @model_validator(mode="after")
    def _solvers_exist(self) -> "SwitchCurves":
        self.solvers()
        return self

    def solvers(self) -> list[Solver]:
        return [Solver(self.solver, steps, history=self.history) for steps in self.steps]
