"""The final measurement, on seeds that nothing was chosen with."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ...config import EarlyExit, Evaluation, HardwareSettings, Noise, Sampling, SwitchSearch
from ...diffusion.solvers import Solver
from ...files import load_tensors, save_tensors, sha256_of_json
from ...images.pack import ImagePack
from ...metrics.classifier import FeatureClassifier
from ...metrics.intervals import Interval, block_interval
from ...metrics.memorisation import Nearness, memorisation_interval, share_by_chance
from ...metrics.real_images import RealImages
from ...metrics.records import MetricRecord, few_images_warnings
from ...metrics.reference import ReferenceStatistics
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...networks.shared_exits import SharedExits
from ...workdir import WorkDir
from ..measuring import make_meter, sampling_device
from .comparison import EvaluatedPlan, evaluated_plans

logger = logging.getLogger(__name__)

CODE = [
    "config/evaluation.py",
    "config/search.py",
    "config/training.py",
    "diffusion",
    "metrics",
    "networks",
    "pipelines/evaluation",
]
EXITS = "early_exits"
GRID = "sample grid"


def plan_evaluation(
    chosen: list[dict[str, Any]],
    settings: Evaluation,
    search: SwitchSearch,
    early_exit: EarlyExit,
    noise: Noise,
    sampling: Sampling,
    **stored: Any,
) -> list[dict[str, Any]]:
    """What will be evaluated, at which price.

    stored: `network_<name>` and `curve_<name>` of all backbones and of `early_exits`.
    """
    networks, curves = _by_name(stored, "network_"), _by_name(stored, "curve_")
    bank = _bank(networks, early_exit, sampling)
    patience = early_exit.exit_patience
    plans = evaluated_plans(chosen, settings, bank, search.backbones, noise.schedule(), patience)
    return [_described(evaluated, bank, networks, curves) for evaluated in plans]


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
    held_out: ImagePack,
    work_folder: Path,
    **stored: Any,
) -> tuple[pd.DataFrame, dict[str, list[float]], dict[str, Tensor]]:
    """Every metric and the cost of every plan in every seed block, the seconds an image in each, a sample grid a plan.

    The plans take turns within a block, so that a machine that slows down slows all of them.
    """
    networks = _by_name(stored, "network_")
    bank = _bank(networks, early_exit, sampling)
    device = sampling_device(hardware, *networks.values())
    meter = make_meter(extractor, reference, train, settings.images, noise, sampling, device)
    parameters = {
        "n_images": meter.n_images,
        "grid_images": settings.grid_images,
        "sampling": sampling.model_dump(),
        "hardware": hardware.model_dump(),
    }
    inputs = {"reference": reference.sha256, "train": train.sha256}  # that of the reference covers the held-out images
    work = WorkDir(work_folder, "evaluation", parameters, inputs, CODE)
    real = RealImages(extractor, train.images, held_out.images)
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
                    **real.judge(measured),
                    "gmacs": measured.trace.gmacs_per_image,
                    "exit_depth": float(measured.trace.exit_depth.mean()),
                    "seconds": measured.seconds_per_image,
                }

            values = work.remember(key, measure, grid_file)
            seconds[plan.name].append(values.pop("seconds"))
            rows.append({"plan": plan.name, "role": described["role"], "seed": seed, **values})
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
    train: ImagePack,
    held_out: ImagePack,
) -> list[dict[str, Any]]:
    """One metric record a plan and metric."""
    n_generated = settings.images or reference.statistics.n_images
    few = few_images_warnings(n_generated, reference.statistics.n_images, reference.statistics.n_features)
    by_features = {"extractor": extractor.name, "extractor_sha256": extractor.sha256}
    against_held_out = {"n_reference": len(held_out), "reference_sha256": reference.sha256}
    against_both = {
        "n_reference": len(train) + len(held_out),
        "reference_sha256": sha256_of_json([train.sha256, held_out.sha256]),
        "expected": share_by_chance(len(train), len(held_out)),
    }
    measured_by: dict[str, dict[str, Any]] = {
        "fid": {**by_features, **against_held_out, "warnings": few},
        "kid": {**by_features, **against_held_out},
        "memorisation_features": {**by_features, **against_both},
        "memorisation_pixels": {"extractor": "pixels", "extractor_sha256": None, **against_both},
    }
    records = []
    for described, (metric, how) in product(evaluated, measured_by.items()):
        solver = Solver.from_dict(described)
        own = blocks[blocks["plan"] == described["name"]]
        interval = _interval(own, metric, len(train), len(held_out))
        record = MetricRecord(
            name=metric,
            value=interval.value,
            interval_low=interval.low,
            interval_high=interval.high,
            interval_method=interval.method,
            n_generated=n_generated,
            **how,
            denoiser=described["name"],
            edges=described["edges"],
            solver=solver.label,
            solver_conventions=solver.conventions,
            steps=described["steps"],
            nfe=described["nfe"],
            k=described["k"],
            gmacs=float(own["gmacs"].mean()),
            micro_batch_images=sampling.micro_batch_images,
            weights=described["weights"],
            guidance=described["guidance"],
            seeds=settings.seeds,
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


def _interval(blocks: pd.DataFrame, metric: str, n_train: int, n_held_out: int) -> Interval:
    """Of one metric of one plan."""
    values = blocks[metric].tolist()
    seen = metric.removeprefix("memorisation_")
    if seen == metric:
        return block_interval(values)
    nearness = [Nearness(*block) for block in zip(values, blocks[f"same_nearest_{seen}"], strict=True)]
    return memorisation_interval(nearness, n_train, n_held_out)


def _by_name(stored: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}


def _bank(networks: Mapping[str, StoredNetwork], early_exit: EarlyExit, sampling: Sampling) -> NetworkBank:
    backbones = {name: network for name, network in networks.items() if name != EXITS}
    return NetworkBank(backbones, networks[EXITS], early_exit.backbone, sampling.guidance_by(backbones))


def _served_by(plan: SamplingPlan) -> list[str]:
    """The distinct networks that a plan is made of."""
    exits = [] if plan.exit_threshold is None else [EXITS]
    return [*dict.fromkeys(plan.schedule.assignment(plan.grid)), *exits]


def _resident(served_by: list[str], networks: Mapping[str, StoredNetwork]) -> list[str]:
    """Those that run: exits with a network of their own were only trained from the one they leave."""
    own_network = EXITS in served_by and isinstance(networks[EXITS].module, SharedExits)
    return [EXITS] if own_network else served_by


def _key(plan: SamplingPlan, networks: Mapping[str, StoredNetwork]) -> str:
    """Of all that a block of a plan depends on beside what all plans share; its name is left out."""
    depends_on = {name: networks[name].sha256 for name in _served_by(plan)}
    schedule = {
        "runs": plan.runs,
        "noise": asdict(plan.schedule.noise),
        "exits": [plan.exit_threshold, plan.exit_patience],
    }
    return sha256_of_json({"solver": asdict(plan.solver), **schedule, **depends_on})[:16]


def _described(
    evaluated: EvaluatedPlan, bank: NetworkBank, networks: Mapping[str, StoredNetwork], curves: Mapping[str, Any]
) -> dict[str, Any]:
    """The plan, and beside what makes it: nfe, switches, runs, weights, guidance, and its price."""
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
        "guidance": bank.guidance_of(plan),
        "resident_parameters": sum(networks[name].parameters for name in _resident(served_by, networks)),
        "training_gmacs": sum(curves[name]["training_gmacs"] for name in served_by),
    }
