"""Solvers: diffusers' schedulers behind one adapter, chosen by name and number of steps.

What the libraries default differently is explicit here: timesteps are spaced 'trailing' (Lin et al. 2024,
arXiv 2305.08891: the first evaluation is at T-1, the last step lands on clean data), predicted images are not clipped.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .noise import NoiseSchedule

SolverName = Literal["ddpm", "ddim", "dpmsolver++"]
CONVENTIONS = "trailing timesteps, predicted images not clipped"


@dataclass(frozen=True)
class Solver:
    """A solver by name and number of steps S; whatever is asked of it raises InputError where S is not within 1..T.

    Raises InputError for a name that is none of these, and for an eta without ddim.

    ddpm: ancestral sampling with the posterior variance (Ho et al. 2020, arXiv 2006.11239, eq. 7).
    ddim: Song et al. 2021 (arXiv 2010.02502, eq. 12 and 16); eta scales the noise, 0 is deterministic.
    dpmsolver++: second-order multistep (Lu et al. 2022, arXiv 2211.01095), deterministic.
    """

    name: SolverName
    steps: int
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in get_args(SolverName):
            raise InputError(f"there is no solver {self.name!r}; there are {', '.join(get_args(SolverName))}")
        if self.eta and self.name != "ddim":
            raise InputError(f"eta {self.eta:g} belongs to ddim, not to {self.name}")

    def start(self, noise: NoiseSchedule) -> "SolverRun":
        """A fresh run; multistep solvers keep their history in it."""
        return SolverRun(self, noise)

    def grid(self, noise: NoiseSchedule) -> tuple[float, ...]:
        """The timestep of every evaluation, noise to data; its length is the NFE."""
        return tuple(float(n) for n in self._timesteps(noise))

    def coefficients(self, noise: NoiseSchedule) -> NDArray[np.float64]:
        """(S,) float64: how much of the noise predicted at evaluation i goes into the x that follows it.

        Of ddim with eta 0: sqrt(1 - abar') - sqrt(abar' / abar) sqrt(1 - abar), the prime marking the next timestep.
        """
        run, found = self.start(noise), np.empty(self.steps)
        still = torch.zeros(self.steps, 1, 1, 1, dtype=torch.float64)
        only_at = torch.eye(self.steps, dtype=torch.float64)[:, :, None, None, None]
        for i, eps in enumerate(only_at):  # solvers are linear in all predictions, so one at a time tells its share
            found[i] = run.step(eps, i, still, still if run.stochastic else None)[i].item()
        return found

    def _timesteps(self, noise: NoiseSchedule) -> list[int]:
        """'Trailing' spacing. diffusers' own gains a timestep -1 where rounding adds up, at 61 of 1000 for one."""
        if not 1 <= self.steps <= noise.timesteps:
            raise InputError(f"solver steps {self.steps} must lie within 1..{noise.timesteps}")
        return [round((self.steps - i) * noise.timesteps / self.steps) - 1 for i in range(self.steps)]

    @property
    def label(self) -> str:
        return f"{self.name}(eta={self.eta:g})" if self.name == "ddim" and self.eta else self.name


class SolverRun:
    """One pass of a solver over one batch."""

    def __init__(self, solver: Solver, noise: NoiseSchedule) -> None:
        # diffusers takes seconds to import; only sampling needs it
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler
        from diffusers.schedulers.scheduling_dpmsolver_multistep import (
            DPMSolverMultistepScheduler,
        )

        steps, whole = solver.steps, noise.timesteps
        timesteps = solver._timesteps(noise)
        self.grid = tuple(float(n) for n in timesteps)
        if solver.name == "dpmsolver++":
            self._scheduler = DPMSolverMultistepScheduler(
                num_train_timesteps=whole, trained_betas=noise.betas, solver_order=2, final_sigmas_type="zero"
            )
            self._scheduler.set_timesteps(timesteps=timesteps)
            self.eta = 0.0
        else:
            # ddpm is ddim at eta = 1, and of diffusers' two only that one takes noise drawn outside
            self._scheduler = DDIMScheduler(
                num_train_timesteps=whole, trained_betas=noise.betas, clip_sample=False, set_alpha_to_one=True
            )
            # it takes every step to be T // S long, true only where S divides T; on the grid's own alphas all are 1
            self._scheduler.alphas_cumprod = self._scheduler.alphas_cumprod[timesteps[::-1]]
            self._scheduler.register_to_config(num_train_timesteps=steps)
            self._scheduler.set_timesteps(steps)
            self.eta = 1.0 if solver.name == "ddpm" else solver.eta

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(self, eps: Tensor, evaluation: int, x: Tensor, noise: Tensor | None) -> Tensor:
        """x after evaluation i, from the noise eps predicted there; all (N, C, H, W).

        noise: standard normal like x where the run is `stochastic`, else None.
        """
        options = {"eta": self.eta, "variance_noise": noise} if self.stochastic else {}
        timestep = self._scheduler.timesteps[evaluation]
        stepped: Tensor = self._scheduler.step(eps, timestep, x, return_dict=False, **options)[0]
        return stepped
