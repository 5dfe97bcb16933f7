"""At which depth the adaptive denoiser exits, and the switch that suggests."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from ...analysis.change_point import find_change_point
from ...analysis.exit_statistics import exit_panels
from ...config import ExitStatistics, HardwareSettings, Noise, Sampling
from ...diffusion.sampling import sample
from ...images.pack import ImagePack
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan, single
from ..hardware import sampling_device


def collect_exits(
    network: StoredNetwork,
    exits: StoredNetwork,
    train: ImagePack,
    settings: ExitStatistics,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
) -> pd.DataFrame:
    """The exit depth of every image at every evaluation, under every threshold."""
    bank = NetworkBank({"deep": network}, exits, "deep")
    schedule, solver = noise.schedule(), settings.solver.solver()
    device = sampling_device(hardware, network, exits)
    tables = []
    for threshold in settings.thresholds:
        stages = single("", "deep", solver, schedule).schedule
        denoiser = bank.denoiser(SamplingPlan(f"adadiff {threshold:g}", solver, stages, threshold))
        trace = sample(
            denoiser,
            solver,
            schedule,
            train.shape_chw,
            range(settings.images),
            settings.seed,
            sampling.micro_batch_images,
            device,
        ).trace
        index = pd.MultiIndex.from_product([range(trace.nfe), range(settings.images)], names=["evaluation", "image"])
        table = pd.DataFrame(
            {"threshold": threshold, "exit_depth": trace.exit_depth.ravel()}, index=index
        ).reset_index()
        tables.append(table.assign(timestep=trace.timesteps[table["evaluation"]]))
    return pd.concat(tables, ignore_index=True)


def find_change_points(exit_table: pd.DataFrame, settings: ExitStatistics) -> list[dict[str, Any]]:
    """For every threshold the change point with its interval, or the statement that there is none."""
    return [
        {"threshold": panel.threshold, **asdict(find_change_point(panel, settings.seed))}
        for panel in exit_panels(exit_table)
    ]
