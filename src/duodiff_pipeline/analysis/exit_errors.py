"""What a network errs at each of its exit depths, before and after it was fine-tuned to leave there: a cheap proxy.

Symbols: E evaluations of a solver at timesteps n_i, c_i how much of the noise predicted there goes into the x that
follows (`Solver.coefficients`), e_d,i squared error on the noise at exit depth d, L all blocks, S an exit schedule.

    excess(S) = sum_i c_i^2 (e_S(n_i),i - e_L,i) / sum_i c_i^2 e_L,i

is what leaving early adds to the squared error of the untuned network that never does, as in `loss_gap`: nothing is
sampled, and every exit schedule is judged by the same E errors a depth.
"""

import pandas as pd
import torch
from torch import Tensor

from ..diffusion.solvers import Solver
from ..networks.exit_schedule import BINS, ExitSchedule
from ..networks.transformer import TransformerBackbone
from .loss_gap import noise_errors

_STEPS = 2 * BINS  # two evaluations in every bin of an exit schedule


def exit_errors(
    before: TransformerBackbone, after: TransformerBackbone, x0_nchw: Tensor, seed: int, labels: Tensor | None = None
) -> pd.DataFrame:
    """One row an exit depth and evaluation of ddim: depth, timestep, coefficient, before, after.

    before, after: mean squared error on the noise in images x0 (N, C, H, W) of either network; all share their noise.
    labels: (N,) of the images, where the networks are class-conditional.
    """
    noise = before.config.noise
    solver = Solver("ddim", min(_STEPS, noise.timesteps))
    grid, coefficients = solver.grid(noise), solver.coefficients(noise)
    tables = []
    for depth in before.exit_depths:
        found = {
            name: noise_errors(network.part(str(depth)), x0_nchw, grid, noise, seed, labels).mean(axis=1)
            for name, network in (("before", before), ("after", after))
        }
        tables.append(pd.DataFrame({"depth": depth, "timestep": grid, "coefficient": coefficients, **found}))
    return pd.concat(tables, ignore_index=True)


def excess_error(errors: pd.DataFrame, schedule: ExitSchedule, network: str) -> float:
    """excess(S) from the table of `exit_errors`; network: before or after the fine-tuning."""
    full = errors[errors["depth"] == errors["depth"].max()].set_index("timestep")
    depths = schedule.depth_at(torch.tensor(full.index.to_numpy()))
    leaving = errors.set_index(["timestep", "depth"])[network]
    own = leaving.loc[list(zip(full.index, depths.tolist(), strict=True))].to_numpy()
    weights = full["coefficient"].to_numpy() ** 2
    whole = full["before"].to_numpy()
    return float((weights * (own - whole)).sum() / (weights * whole).sum())
