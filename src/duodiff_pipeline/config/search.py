"""Sections of the search, and of every single switch."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ..diffusion.solvers import History, Solver, SolverName
from .settings import Distinct, Settings

Steps = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Distinct]
EdgesBy = Literal[
    "switch",
    "uniform_timestep",
    "uniform_log_snr",
    "log_snr_clusters",
    "gradient_affinity",
    "exit_statistics",
    "optimal_denoiser",
    "optimal_denoiser_clusters",
    "loss_gap",
    "papers",
]


class SwitchSearch(Settings):
    """The search over who serves, switches, edges, solver and steps: within budgets of cost, and then for the front."""

    n_trials: int = Field(ge=1, description="trials of the front, FID against cost; a larger number extends it")
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        description="before that, the lowest FID is searched within each of these shares of what the deep network "
        "costs with the first solver and the most steps; none leaves that out"
    )
    budget_trials: int = Field(ge=1, description="trials of each budget; most end after the first images")
    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        description="shares of the images after which a trial of a budget is given up unless it is among the best "
        "third; rounded to whole micro-batches; none gives up nothing"
    )
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
    stages: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Distinct] = Field(
        min_length=1, description="numbers of stages to choose from; those beyond the number of backbones fall away"
    )
    edges_by: Annotated[tuple[EdgesBy, ...], Distinct] = Field(
        description="where edges may come from: switch, between any two evaluations; or a method that proposes them"
    )
    by_parts: Annotated[tuple[Literal["exit schedule", "decoders"], ...], Distinct] = Field(
        description="networks that may serve alone by their parts, where there are any: ASE by other exit schedules, "
        "multistage networks by their decoders"
    )
    memory_mb: float | None = Field(
        gt=0, description="most memory that the networks of a schedule may take, in MB; null: any"
    )
    storage: str | None = Field(
        pattern=r"^postgresql://",
        description="database of the study, which workers on several machines can share; null: a journal file",
    )

    @model_validator(mode="after")
    def _is_a_space(self) -> "SwitchSearch":
        solvers = [Solver(name, steps) for name in self.solvers for steps in self.steps]
        if "dropped" in self.history and not any(solver.has_history for solver in solvers):
            raise ValueError(f"history cannot be dropped: none of {list(self.solvers)} is a multistep solver")
        for name, shares in (("budgets", self.budgets), ("rungs", self.rungs)):
            if list(shares) != sorted(set(shares)):
                raise ValueError(f"{name} {list(shares)} must ascend")
        if 1 not in self.stages and not self.edges_by:
            raise ValueError("edges_by names no way to place an edge, and stages leaves out schedules without any")
        if self.storage is not None and urlsplit(self.storage).password is not None:
            raise ValueError(
                "storage must not hold a password, for parameters are recorded: PGPASSWORD or ~/.pgpass can"
            )
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
