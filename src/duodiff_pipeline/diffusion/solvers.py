"""Solvers: diffusers' schedulers behind one adapter, chosen by name and number of steps.

What the libraries default differently is explicit here: where the timesteps lie, and that predicted images are not
clipped. Symbols: S steps, the timesteps a run visits; NFE evaluations, one a step but with Heun, which evaluates twice
at every timestep but the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .noise import NoiseSchedule

SolverName = Literal[
    "ddpm",
    "ddim",
    "dpmsolver++1",
    "dpmsolver++",
    "dpmsolver++3m",
    "dpmsolver++2s",
    "dpmsolver++3s",
    "unipc",
    "unipc3",
    "heun",
]
History = Literal["carried", "dropped"]

# name: order
_MULTISTEP = {"dpmsolver++1": 1, "dpmsolver++": 2, "dpmsolver++3m": 3}
_SINGLESTEP = {"dpmsolver++2s": 2, "dpmsolver++3s": 3}
_UNIPC = {"unipc": 2, "unipc3": 3}

# Of Karras et al. 2022, table 1: the largest noise level, as a multiple of the signal, and what spreads the levels
_SIGMA_MAX, _RHO = 80.0, 7


@dataclass(frozen=True)
class Solver:
    """A solver by name and number of steps S; whatever is asked of it raises InputError where S is beyond T.

    Raises InputError for a name that is none of these, too few steps, an eta without ddim, and a history to be dropped
    where there is none.

    ddpm: ancestral sampling with the posterior variance (Ho et al. 2020, arXiv 2006.11239, eq. 7).
    ddim: Song et al. 2021 (arXiv 2010.02502, eq. 12 and 16); eta scales the noise, 0 is deterministic.
    dpmsolver++: Lu et al. 2022 (arXiv 2211.01095), deterministic. Without a suffix their 2M: multistep, second order.
        dpmsolver++1 is of first order: ddim. 3m looks two steps back; as diffusers has it, it converges at second
        order too, with a smaller error. 2s and 3s are singlestep, of second and third order: they take two or three
        timesteps together, evaluate at each, and look back no further.
    unipc: Zhao et al. 2023 (arXiv 2302.04867), UniPC-2 with their B_2(h), multistep; an evaluation also corrects the x
        that it was made at. unipc3 is UniPC-3.
    heun: Karras et al. 2022 (arXiv 2206.00364), algorithm 1, second order, at their noise levels.

    history: what becomes of a multistep solver's earlier predictions where another stage begins: they are carried over
    the edge, or dropped, so that the stage starts at first order, from its own predictions alone.
    """

    name: SolverName
    steps: int
    eta: float = 0.0
    history: History = "carried"

    def __post_init__(self) -> None:
        if self.name not in get_args(SolverName):
            raise InputError(f"there is no solver {self.name!r}; there are {', '.join(get_args(SolverName))}")
        if self.steps < self.fewest_steps:
            raise InputError(f"{self.name} needs {self.fewest_steps} steps or more, not {self.steps}")
        if self.eta and self.name != "ddim":
            raise InputError(f"eta {self.eta:g} belongs to ddim, not to {self.name}")
        if self.history == "dropped" and not self.has_history:
            raise InputError(f"{self.name} has no history to drop: it is no multistep solver")

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; `from_dict` makes the solver of it again, from its name and steps alone if need be."""
        return {"solver": self.name, "steps": self.steps, "eta": self.eta, "history": self.history}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Solver":
        return cls(raw["solver"], raw["steps"], raw.get("eta", 0.0), raw.get("history", "carried"))

    @property
    def alone(self) -> "Solver":
        """The same for one network throughout: there is no edge at which to drop a history."""
        return replace(self, history="carried")

    def of_evaluations(self, evaluations: float, noise: NoiseSchedule) -> "Solver":
        """The same with as many steps as come nearest to that NFE."""
        steps = round((evaluations + 1) / 2 if self.name == "heun" else evaluations)
        return replace(self, steps=min(max(steps, self.fewest_steps), noise.timesteps))

    @property
    def fewest_steps(self) -> int:
        """A singlestep solver ends with a step of first order, so fewer would make none of its own order."""
        return _SINGLESTEP.get(self.name, 0) + 1

    @property
    def has_history(self) -> bool:
        return self.name in _UNIPC or _MULTISTEP.get(self.name, 1) > 1

    def start(self, noise: NoiseSchedule) -> "SolverRun":
        """A fresh run; multistep solvers keep their history in it."""
        return SolverRun(self, noise)

    def grid(self, noise: NoiseSchedule) -> tuple[float, ...]:
        """The timestep of every evaluation, noise to data; its length is the NFE."""
        visited = self.visited(noise)
        return tuple(visited[(i + 1) // 2] for i in range(2 * self.steps - 1)) if self.name == "heun" else visited

    def visited(self, noise: NoiseSchedule) -> tuple[float, ...]:
        """The S timesteps visited, noise to data.

        'Trailing' spacing (Lin et al. 2024, arXiv 2305.08891): the first at T-1, the last step lands on clean data.
        diffusers' own gains a timestep -1 where rounding adds up, at 61 of 1000 for one. Heun's method goes straight in
        the noise level sigma, and such spacing would have it go from 20,000 to 13 at once on a cosine schedule: it has
        the levels of Karras et al. 2022, eq. 5, from 80 (or the largest there is) to that of timestep 0, and fractions.
        """
        if self.steps > noise.timesteps:
            raise InputError(f"solver steps {self.steps} must lie within 1..{noise.timesteps}")
        if self.name == "heun":
            first, last = np.exp(-noise.log_snr[[-1, 0]] / 2)
            root = np.linspace(min(first, _SIGMA_MAX) ** (1 / _RHO), last ** (1 / _RHO), self.steps)
            return tuple(noise.timesteps_at(-2 * _RHO * np.log(root)).round(6).tolist())
        return tuple(round((self.steps - i) * noise.timesteps / self.steps) - 1.0 for i in range(self.steps))

    def coefficients(self, noise: NoiseSchedule) -> NDArray[np.float64]:
        """(NFE,) float64: how much of the noise predicted at evaluation i goes into the x with which its step ends.

        Of ddim with eta 0: sqrt(1 - abar') - sqrt(abar' / abar) sqrt(1 - abar), the prime marking the next timestep.
        All other predictions are held fixed, and there is no edge. What history takes into later steps is not counted.
        """
        run = self.start(noise)
        evaluations = len(run.grid)
        found = np.empty(evaluations)
        still = torch.zeros(evaluations, 1, 1, 1, dtype=torch.float64)
        only_at = torch.eye(evaluations, dtype=torch.float64)[:, :, None, None, None]
        x, step = still, np.array(run.step_of)
        for i, eps in enumerate(only_at):  # solvers are linear in all predictions, so one at a time tells its share
            x = run.step(eps, i, x if i and step[i] == step[i - 1] else still, still if run.stochastic else None)
            found[step == step[i]] = x.flatten().numpy()[step == step[i]]
        return found

    @property
    def switches(self) -> tuple[int, ...]:
        """Every k before which a schedule may switch, from 0 to NFE: evaluations at one timestep go together."""
        return (0, *range(1, 2 * self.steps, 2)) if self.name == "heun" else tuple(range(self.steps + 1))

    @property
    def label(self) -> str:
        named = f"{self.name}(eta={self.eta:g})" if self.eta else self.name
        return f"{named} history dropped" if self.history == "dropped" else named

    @property
    def conventions(self) -> str:
        """What libraries differ in, for records."""
        spacing = "noise levels of Karras et al. 2022" if self.name == "heun" else "trailing timesteps"
        return f"{spacing}, predicted images not clipped"


class SolverRun:
    """One pass of a solver over one batch.

    grid: the timestep of every evaluation; step_of: the step that each belongs to.
    """

    def __init__(self, solver: Solver, noise: NoiseSchedule) -> None:
        self.grid = solver.grid(noise)
        self.eta = 1.0 if solver.name == "ddpm" else solver.eta
        self._solver, self._stage = solver, 0
        ascending = torch.tensor(solver.visited(noise)[::-1], dtype=torch.float64)
        self._scheduler = scheduler = _scheduler(solver.name, noise)
        # Some schedulers take every step to be T // S long, some know no trailing spacing, and some no timesteps of
        # one's own; but on a schedule that consists of the run's timesteps alone, all of them visit every one.
        whole = scheduler.alphas_cumprod[ascending.long()]
        scheduler.alphas_cumprod = noise.abar_at(ascending) if solver.name == "heun" else whole
        scheduler.register_to_config(num_train_timesteps=solver.steps)
        if solver.name in _SINGLESTEP:
            scheduler.set_timesteps(timesteps=list(range(solver.steps))[::-1])
            self.step_of = np.cumsum([order == 1 for order in scheduler.order_list]).tolist()
        else:
            scheduler.set_timesteps(solver.steps)
            self.step_of = [i // 2 if solver.name == "heun" else i for i in range(len(self.grid))]

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    @property
    def history_bytes(self) -> int:
        """Of earlier predictions and samples that it holds, its tables included."""
        held = (value if isinstance(value, list) else [value] for value in vars(self._scheduler).values())
        return sum(one.nbytes for some in held for one in some if isinstance(one, Tensor))

    def step(self, eps: Tensor, evaluation: int, x: Tensor, noise: Tensor | None, stage: int = 0) -> Tensor:
        """x after evaluation i, from the noise eps predicted there; all (N, C, H, W).

        noise: standard normal like x where the run is `stochastic`, else None. stage: the one that predicted eps; where
        it is another than before, a solver that drops its history does so.
        """
        scheduler = self._scheduler
        if self._solver.history == "dropped" and stage != self._stage:
            scheduler.lower_order_nums = 0  # as many earlier predictions are there to be used
            scheduler.last_sample = None  # and UniPC has nothing to correct
        self._stage = stage
        if self._solver.name == "heun":  # its x has the variance of the signal all along, and sigma^2 beside it
            x = x * (scheduler.sigmas[evaluation] ** 2 + 1) ** 0.5
        options = {"eta": self.eta, "variance_noise": noise} if self.stochastic else {}
        timestep = scheduler.timesteps[evaluation]
        stepped: Tensor = scheduler.step(eps, timestep, x, return_dict=False, **options)[0]
        if self._solver.name == "heun":
            stepped = stepped / (scheduler.sigmas[evaluation + 1] ** 2 + 1) ** 0.5
        return stepped


def _scheduler(name: SolverName, noise: NoiseSchedule) -> Any:
    """diffusers', for the whole noise schedule. Each is imported where it is used: only sampling needs the seconds."""
    common: dict[str, Any] = {"num_train_timesteps": noise.timesteps, "trained_betas": noise.betas}
    if name in _MULTISTEP:
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler as Multistep

        return Multistep(**common, solver_order=_MULTISTEP[name], final_sigmas_type="zero", timestep_spacing="trailing")
    if name in _SINGLESTEP:
        from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler as Singlestep

        return Singlestep(**common, solver_order=_SINGLESTEP[name], lower_order_final=True, final_sigmas_type="zero")
    if name in _UNIPC:
        from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler as UniPC

        return UniPC(**common, solver_order=_UNIPC[name], final_sigmas_type="zero", timestep_spacing="trailing")
    if name == "heun":
        from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler as Heun

        return Heun(**common, timestep_spacing="trailing")
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler as DDIM

    # ddpm is ddim at eta = 1, and of diffusers' two only that one takes noise drawn outside
    return DDIM(**common, clip_sample=False, set_alpha_to_one=True)
