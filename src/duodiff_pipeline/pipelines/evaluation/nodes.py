"""The final measurement, on seeds that nothing was chosen with."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ...config import EarlyExit, Evaluation, HardwareSettings, Noise, Sampling, SwitchSearch
from ...diffusion.solvers import Solver
from ...diffusion.stages import StageSchedule
from ...files import load_tensors, save_tensors
from ...images.pack import ImagePack
from ...metrics.classifier import FeatureClassifier
from ...metrics.intervals import block_interval
from ...metrics.measure import Meter
from ...metrics.records import MetricRecord, few_images_warnings
from ...metrics.reference import ReferenceStatistics
from ...networks.plans import NetworkBank, SamplingPlan
from ...workdir import WorkDir
from ..hardware import sampling_device
from .plans import EvaluatedPlan, evaluated_plans

logger = logging.getLogger(__name__)

CODE = ["diffusion", "images", "metrics", "networks"]


def plan_evaluation(
    chosen: list[dict[str, Any]],
    settings: Evaluation,
    search: SwitchSearch,
    early_exit: EarlyExit,
    noise: Noise,
    **stored: Any,
) -> list[dict[str, Any]]:
    """What will be evaluated, at which cost and price.

    stored: the networks and, as `<name>_curve`, the training curves of all backbones and of `early_exits`.
    """
    bank = _bank(stored, early_exit.backbone)
    plans = evaluated_plans(chosen, settings, bank, search.first, search.last, noise.schedule())
    return [_described(evaluated, bank, stored) for evaluated in plans]


def measure_plans(
    evaluated: list[dict[str, Any]],
    settings: Evaluation,
    early_exit: EarlyExit,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    extractor: FeatureClassifier,
    reference: ReferenceStatistics,
    train: ImagePack,
    work_folder: Path,
    **networks: Any,
) -> tuple[pd.DataFrame, dict[str, list[float]], dict[str, Tensor]]:
    """FID and cost of every plan in every seed block, the seconds an image in each, and a sample grid a plan.

    The plans take turns within a block, so that a machine that slows down slows all of them.
    """
    bank = _bank(networks, early_exit.backbone)
    schedule = noise.schedule()
    meter = Meter(
        extractor=extractor,
        reference=reference,
        noise=schedule,
        shape_chw=train.shape_chw,
        n_images=settings.images or reference.statistics.n_images,
        micro_batch_images=sampling.micro_batch_images,
        device=sampling_device(hardware, *networks.values()),
    )
    parameters = {
        "n_images": meter.n_images,
        "grid_images": settings.grid_images,
        "noise": noise.model_dump(),
        "sampling": sampling.model_dump(),
        "hardware": hardware.model_dump(),
        "exits_of": early_exit.backbone,
    }
    inputs = {"reference": reference.sha256, **{name: network.sha256 for name, network in networks.items()}}
    work = WorkDir(work_folder, "evaluation", parameters, inputs, CODE)
    rows = []
    seconds: dict[str, list[float]] = {described["name"]: [] for described in evaluated}
    grids: dict[str, Tensor] = {}
    warm = set[str]()
    started = time.monotonic()
    for done, seed in enumerate(settings.seeds):
        left = (time.monotonic() - started) / max(1, done) * (len(settings.seeds) - done)
        shown = f", about {left:.0f} s left" if done else ""
        logger.info("block %d of %d: %d plans%s", done + 1, len(settings.seeds), len(evaluated), shown)
        for described in evaluated:
            plan = _plan(described, noise)
            key = f"{plan.solver.label}_{plan.solver.steps}_{plan.runs}_{plan.exit_threshold}_{seed}"
            grid_file = work.folder / f"{key}.safetensors"

            def measure(plan: SamplingPlan = plan, seed: int = seed, grid_file: Path = grid_file) -> dict[str, float]:
                denoiser = bank.denoiser(plan)
                if plan.name not in warm:
                    meter.warm_up(denoiser, plan.solver)
                    warm.add(plan.name)
                measured = meter.measure(denoiser, plan.solver, seed)
                save_tensors(grid_file, "sample grid", {}, {"images": measured.images[: settings.grid_images].clone()})
                return {
                    "fid": measured.fid,
                    "gmacs": measured.trace.gmacs_per_image,
                    "seconds": measured.seconds_per_image,
                }

            values = work.remember(key, measure)
            rows.append(
                {
                    "plan": plan.name,
                    "role": described["role"],
                    "seed": seed,
                    "fid": values["fid"],
                    "gmacs": values["gmacs"],
                }
            )
            seconds[plan.name].append(values["seconds"])
            grids.setdefault(plan.name, load_tensors(grid_file, "sample grid")[1]["images"])
    return pd.DataFrame(rows), seconds, grids


def make_records(
    evaluated: list[dict[str, Any]],
    blocks: pd.DataFrame,
    settings: Evaluation,
    sampling: Sampling,
    extractor: FeatureClassifier,
    reference: ReferenceStatistics,
) -> list[dict[str, Any]]:
    """One metric record a plan."""
    n_reference = reference.statistics.n_images
    n_generated = settings.images or n_reference
    records = []
    for described in evaluated:
        own = blocks[blocks["plan"] == described["name"]]
        interval = block_interval(own["fid"].tolist())
        record = MetricRecord(
            name="fid",
            value=interval.value,
            interval_low=interval.low,
            interval_high=interval.high,
            interval_method=interval.method,
            n_generated=n_generated,
            n_reference=n_reference,
            extractor=extractor.name,
            extractor_sha256=extractor.sha256,
            reference_sha256=reference.sha256,
            denoiser=described["name"],
            edges=described["edges"],
            solver=described["solver"],
            steps=described["steps"],
            nfe=described["nfe"],
            k=described["k"],
            gmacs=float(own["gmacs"].mean()),
            micro_batch_images=sampling.micro_batch_images,
            weights="ema",
            seeds=settings.seeds,
            warnings=few_images_warnings(n_generated, n_reference, reference.statistics.n_features),
        )
        records.append(record.model_dump(mode="json"))
    return records


def summarise_timings(
    evaluated: list[dict[str, Any]], seconds: dict[str, list[float]], **training: dict[str, float]
) -> dict[str, Any]:
    """Median seconds an image and speed-up against the baseline, block by block; seconds of every training."""
    baseline = np.array(seconds[evaluated[0]["name"]])
    sampling = {}
    for described in evaluated:
        own = np.array(seconds[described["name"]])
        ratio = baseline / own
        sampling[described["name"]] = {
            "seconds_per_image": float(np.median(own)),
            "speed_up": float(np.median(ratio)),
            "speed_up_low": float(ratio.min()),
            "speed_up_high": float(ratio.max()),
        }
    return {"sampling": sampling, "training_seconds": {name: value["seconds"] for name, value in training.items()}}


def _bank(stored: Mapping[str, Any], exits_of: str) -> NetworkBank:
    backbones = {name: value for name, value in stored.items() if name != "early_exits" and not name.endswith("_curve")}
    return NetworkBank(backbones, stored["early_exits"], exits_of)


def _described(evaluated: EvaluatedPlan, bank: NetworkBank, stored: Mapping[str, Any]) -> dict[str, Any]:
    plan = evaluated.plan
    names = list(dict.fromkeys(plan.schedule.assignment(plan.grid)))
    trained = names + (["early_exits"] if plan.exit_threshold is not None else [])
    return {
        "name": plan.name,
        "role": evaluated.role,
        "control_of": evaluated.control_of,
        "solver": plan.solver.name,
        "steps": plan.solver.steps,
        "eta": plan.solver.eta,
        "edges": list(plan.schedule.edges),
        "serves": list(plan.schedule.serves),
        "runs": plan.runs,
        "exit_threshold": plan.exit_threshold,
        "nfe": len(plan.grid),
        "k": plan.switch,
        "resident_parameters": sum(stored[name].parameters for name in trained),
        "training_gmacs": sum(stored[f"{name}_curve"]["training_gmacs"] for name in trained),
    }


def _plan(described: Mapping[str, Any], noise: Noise) -> SamplingPlan:
    solver = Solver(described["solver"], described["steps"], described["eta"])
    schedule = StageSchedule(tuple(described["edges"]), tuple(described["serves"]), noise.schedule())
    return SamplingPlan(described["name"], solver, schedule, described["exit_threshold"])
