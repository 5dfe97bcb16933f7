"""The final measurement, on seeds that nothing was chosen with."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ...config import EarlyExit, Evaluation, HardwareSettings, Noise, Sampling, SwitchSearch
from ...diffusion.solvers import CONVENTIONS
from ...files import load_tensors, save_tensors, sha256_of_json
from ...images.pack import ImagePack
from ...metrics.classifier import FeatureClassifier
from ...metrics.intervals import block_interval
from ...metrics.records import MetricRecord, few_images_warnings
from ...metrics.reference import ReferenceStatistics
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...workdir import WorkDir
from ..measuring import make_meter, sampling_device
from .comparison import EvaluatedPlan, evaluated_plans

logger = logging.getLogger(__name__)

CODE = ["diffusion", "metrics", "networks", "pipelines/evaluation"]
EXITS = "early_exits"
GRID = "sample grid"


def plan_evaluation(
    chosen: list[dict[str, Any]],
    settings: Evaluation,
    search: SwitchSearch,
    early_exit: EarlyExit,
    noise: Noise,
    **stored: Any,
) -> list[dict[str, Any]]:
    """What will be evaluated, at which price.

    stored: `network_<name>` and `curve_<name>` of all backbones and of `early_exits`.
    """
    networks, curves = _by_name(stored, "network_"), _by_name(stored, "curve_")
    bank = _bank(networks, early_exit)
    plans = evaluated_plans(chosen, settings, bank, search.backbones, noise.schedule())
    return [_described(evaluated, networks, curves) for evaluated in plans]


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
    **stored: Any,
) -> tuple[pd.DataFrame, dict[str, list[float]], dict[str, Tensor]]:
    """FID and cost of every plan in every seed block, the seconds an image in each, and a sample grid a plan.

    The plans take turns within a block, so that a machine that slows down slows all of them.
    """
    networks = _by_name(stored, "network_")
    bank = _bank(networks, early_exit)
    device = sampling_device(hardware, *networks.values())
    meter = make_meter(extractor, reference, train, settings.images, noise, sampling, device)
    parameters = {
        "n_images": meter.n_images,
        "grid_images": settings.grid_images,
        "sampling": sampling.model_dump(),
        "hardware": hardware.model_dump(),
    }
    work = WorkDir(work_folder, "evaluation", parameters, {"reference": reference.sha256}, CODE)
    plans = [SamplingPlan.from_dict(described) for described in evaluated]
    denoisers = {plan.name: bank.denoiser(plan) for plan in plans}
    keys = {plan.name: _key(plan, networks) for plan in plans}
    rows = []
    seconds: dict[str, list[float]] = {plan.name: [] for plan in plans}
    grids: dict[str, Tensor] = {}
    warm = set[str]()
    started = time.monotonic()
    for done, seed in enumerate(settings.seeds):
        left = (time.monotonic() - started) / max(1, done) * (len(settings.seeds) - done)
        shown = f", about {left:.0f} s left" if done else ""
        logger.info("block %d of %d: %d plans%s", done + 1, len(settings.seeds), len(evaluated), shown)
        for described, plan in zip(evaluated, plans, strict=True):
            key = f"{keys[plan.name]}_{seed}"
            grid_file = work.folder / f"{key}.safetensors"

            def measure(plan: SamplingPlan = plan, seed: int = seed, grid_file: Path = grid_file) -> dict[str, float]:
                if plan.name not in warm:
                    meter.warm_up(denoisers[plan.name], plan.solver)
                    warm.add(plan.name)
                measured = meter.measure(denoisers[plan.name], plan.solver, seed)
                save_tensors(grid_file, GRID, {}, {"images": measured.images[: settings.grid_images].clone()})
                return {
                    "fid": measured.fid,
                    "gmacs": measured.trace.gmacs_per_image,
                    "seconds": measured.seconds_per_image,
                }

            values = work.remember(key, measure, grid_file)
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
            if plan.name not in grids:
                grids[plan.name] = load_tensors(grid_file, GRID)[1]["images"]
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
            solver=SamplingPlan.from_dict(described).solver.label,
            solver_conventions=CONVENTIONS,
            steps=described["steps"],
            nfe=described["nfe"],
            k=described["k"],
            gmacs=float(own["gmacs"].mean()),
            micro_batch_images=sampling.micro_batch_images,
            weights=described["weights"],
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
    by_network = _by_name(training, "seconds_")
    return {"sampling": sampling, "training_seconds": {name: value["seconds"] for name, value in by_network.items()}}


def _by_name(stored: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}


def _bank(networks: Mapping[str, StoredNetwork], early_exit: EarlyExit) -> NetworkBank:
    backbones = {name: network for name, network in networks.items() if name != EXITS}
    return NetworkBank(backbones, networks[EXITS], early_exit.backbone)


def _served_by(plan: SamplingPlan) -> list[str]:
    """The distinct networks that must be resident to sample a plan."""
    exits = [] if plan.exit_threshold is None else [EXITS]
    return [*dict.fromkeys(plan.schedule.assignment(plan.grid)), *exits]


def _key(plan: SamplingPlan, networks: Mapping[str, StoredNetwork]) -> str:
    """Of all that a block of a plan depends on beside what all plans share; its name is left out."""
    depends_on = {name: networks[name].sha256 for name in _served_by(plan)}
    schedule = {"runs": plan.runs, "noise": asdict(plan.schedule.noise), "threshold": plan.exit_threshold}
    return sha256_of_json({"solver": asdict(plan.solver), **schedule, **depends_on})[:16]


def _described(
    evaluated: EvaluatedPlan, networks: Mapping[str, StoredNetwork], curves: Mapping[str, Any]
) -> dict[str, Any]:
    """The plan, and beside what makes it: nfe, switches, runs, weights, and its price."""
    plan = evaluated.plan
    served_by = _served_by(plan)
    return {
        **plan.to_dict(),
        "role": evaluated.role,
        "control_of": evaluated.control_of,
        "runs": plan.runs,
        "nfe": len(plan.grid),
        "k": plan.switch,
        "switches": plan.switches,
        "weights": networks[served_by[0]].header.weights,
        "resident_parameters": sum(networks[name].parameters for name in served_by),
        "training_gmacs": sum(curves[name]["training_gmacs"] for name in served_by),
    }
