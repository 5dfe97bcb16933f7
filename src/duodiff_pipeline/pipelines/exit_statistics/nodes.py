"""At which depth the adaptive denoiser exits, and the switch that suggests."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ...analysis.change_point import find_change_point
from ...analysis.exit_statistics import exit_panels
from ...config import EarlyExit, ExitStatistics, HardwareSettings, Sampling
from ...diffusion.noise import NoiseSchedule
from ...diffusion.sampling import Trace
from ...diffusion.stages import StageSchedule
from ...images.examples import Examples
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...tables import load_table, save_table
from ...workdir import WorkDir
from ..measuring import make_sampler, move_to_device

CODE = ["config/analysis.py", "config/training.py", "analysis", "diffusion", "networks", "pipelines/exit_statistics"]


def collect_exits(
    network: StoredNetwork,
    exits: StoredNetwork,
    train: Examples,
    settings: ExitStatistics,
    early_exit: EarlyExit,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
) -> pd.DataFrame:
    """The exit depth of every image at every evaluation, under every threshold."""
    name = early_exit.backbone
    bank = NetworkBank({name: network}, exits, name, sampling.guidance_by([name]))
    noise = bank.network(name).config.noise
    move_to_device(hardware, network, exits)
    sampler = make_sampler(sampling, hardware)
    parameters = {
        **settings.model_dump(mode="json"),
        "patience": early_exit.exit_patience,
        "sampling": sampling.model_dump(),
        "hardware": hardware.of_sampling,
    }
    inputs = {"network": network.sha256, "exits": exits.sha256}
    work = WorkDir(work_folder, "exit_statistics", parameters, inputs, CODE)

    def exits_at(plan: SamplingPlan) -> pd.DataFrame:
        images = range(settings.images)
        drawn = sampler.sample(bank.denoiser(plan), plan.solver, noise, train.shape_chw, images, settings.seed)
        trace = Trace.joined([samples.trace for samples in drawn])
        index = pd.MultiIndex.from_product([range(trace.nfe), images], names=["evaluation", "image"])
        table = pd.DataFrame({"threshold": plan.exit_threshold, "exit_depth": trace.exit_depth.ravel()}, index=index)
        return table.reset_index().assign(timestep=lambda rows: trace.timesteps[rows["evaluation"]])

    def collect(path: Path) -> None:
        save_table(path, pd.concat(map(exits_at, exit_plans(settings, early_exit, noise)), ignore_index=True))

    return load_table(work.keep("exit_table.parquet", collect))


def exit_plans(settings: ExitStatistics, early_exit: EarlyExit, noise: NoiseSchedule) -> list[SamplingPlan]:
    """What is sampled, one for every threshold."""
    alone, patience = StageSchedule((), (early_exit.backbone,), noise), early_exit.exit_patience
    return [
        SamplingPlan(f"adadiff u<={threshold:g}", settings.solver.solver(), alone, threshold, patience)
        for threshold in settings.thresholds
    ]


def find_change_points(exit_table: pd.DataFrame, settings: ExitStatistics) -> list[dict[str, Any]]:
    """For every threshold the change point with its interval, or the statement that there is none."""
    return [
        {"threshold": panel.threshold, **asdict(find_change_point(panel, settings.seed))}
        for panel in exit_panels(exit_table)
    ]
