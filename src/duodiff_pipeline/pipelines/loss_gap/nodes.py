"""The switch that errors on held-out images suggest: no image is generated, and nothing is searched."""

from typing import Any

import pandas as pd
import torch

from ...analysis.loss_gap import find_loss_gap, noise_errors
from ...config import HardwareSettings, LossGap, Noise, SwitchCurves
from ...diffusion.random import keyed_generator
from ...diffusion.stages import StageSchedule
from ...images.examples import Examples
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank
from ..measuring import move_to_device

SHALLOW, DEEP = "shallow", "deep"


def measure_loss_gap(
    shallow: StoredNetwork,
    deep: StoredNetwork,
    held_out: Examples,
    settings: LossGap,
    curves: SwitchCurves,
    noise: Noise,
    hardware: HardwareSettings,
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """One row an evaluation of every solver, with the excess error of switching right after it; and the switches.

    Columns: solver, steps, evaluation, timestep, coefficient, shallow_error, deep_error (means over images), excess,
    excess_low, excess_high. Class-conditional networks predict by the images' own labels, without guidance.
    """
    schedule = noise.schedule()
    device = move_to_device(hardware, shallow, deep)
    first = torch.arange(min(settings.images, len(held_out)))
    x0 = held_out.x0(first, keyed_generator(settings.seed, "examples")).to(device)
    bank = NetworkBank({SHALLOW: shallow, DEEP: deep})
    labels = held_out.labels[: settings.images].to(device) if bank.classes else None
    tables, switches = [], []
    for solver in curves.solvers():
        grid = solver.grid(schedule)
        shallow_en, deep_en = (
            noise_errors(bank.network(name), x0, grid, schedule, settings.seed, labels) for name in (SHALLOW, DEEP)
        )
        coefficients = solver.coefficients(schedule)
        gap = find_loss_gap(shallow_en, deep_en, coefficients, settings.tolerance, settings.seed, solver.switches)
        columns = {
            "evaluation": range(len(grid)),
            "timestep": grid,
            "coefficient": coefficients,
            "shallow_error": shallow_en.mean(axis=1),
            "deep_error": deep_en.mean(axis=1),
            "excess": gap.excess[1:],
            "excess_low": gap.excess_low[1:],
            "excess_high": gap.excess_high[1:],
        }
        named = {"solver": solver.name, "steps": solver.steps}
        tables.append(pd.DataFrame({**named, **columns}))
        edge, low, high = (
            StageSchedule.from_switch(k, grid, (SHALLOW, DEEP), schedule).edges[0]
            for k in (gap.k, gap.k_high, gap.k_low)  # a later switch is an earlier timestep
        )
        found = {"k": gap.k, "k_low": gap.k_low, "k_high": gap.k_high}
        switches.append({**named, **found, "timestep_edge": edge, "edge_low": low, "edge_high": high})
    return pd.concat(tables, ignore_index=True), switches
