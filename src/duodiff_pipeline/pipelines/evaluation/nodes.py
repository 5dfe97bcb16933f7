"""The final measurement, on seeds that nothing was chosen with."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ...config import Ase, EarlyExit, Evaluation, HardwareSettings, Noise, Sampling, SwitchSearch
from ...diffusion.sampling import image_labels, sample
from ...files import load_tensors, save_tensors, sha256_of_json
from ...images.examples import Examples
from ...images.pack import ImagePack
from ...metrics.classifier import FeatureClassifier
from ...metrics.extractor import FeatureExtractor
from ...metrics.measure import Measured
from ...metrics.real_images import RealImages
from ...metrics.records import LABEL_ACCURACY
from ...metrics.reference import ReferenceStatistics
from ...metrics.seconds import profile_in_turns, time_in_turns
from ...networks.backbone import network_of
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...workdir import WorkDir
from ..measuring import make_meter, move_to_device
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
TIMED_RUNS = 5


def plan_evaluation(
    chosen: list[dict[str, Any]],
    settings: Evaluation,
    search: SwitchSearch,
    early_exit: EarlyExit,
    noise: Noise,
    sampling: Sampling,
    ase: Ase = None,  # type: ignore[assignment]  # Kedro wants a parameter to have one type in all nodes
    **stored: Any,
) -> list[dict[str, Any]]:
    """What will be evaluated, at which price.

    stored: `network_<name>` and `curve_<name>` of all backbones, of `early_exits`, and of `ase` where there is one.
    """
    networks, curves = _by_name(stored, "network_"), _by_name(stored, "curve_")
    bank = evaluation_bank(networks, early_exit, sampling)
    patience = early_exit.exit_patience
    plans = evaluated_plans(chosen, settings, bank, search.backbones, noise.schedule(), patience, ase)
    for evaluated in plans:
        bank.denoiser(evaluated.plan)  # refuses what the networks were not trained for, before anything is written
    described = [_described(evaluated, bank, networks, curves) for evaluated in plans]
    for plan in described:
        if plan["note"]:
            logger.info("%s is %s", plan["name"], plan["note"])
    return described


def measure_plans(
    evaluated: list[dict[str, Any]],
    settings: Evaluation,
    early_exit: EarlyExit,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    train: ImagePack,
    held_out: ImagePack,
    examples: Examples,
    work_folder: Path,
    **stored: Any,
) -> tuple[pd.DataFrame, dict[str, list[float]], dict[str, Tensor]]:
    """Every metric and the cost of every plan in every seed block, the seconds an image in each, a sample grid a plan.

    examples: such as the networks learnt from, held out; they are latents or the held-out images themselves.
    The plans take turns within a block, so that a machine that slows down slows all of them.
    """
    networks = _by_name(stored, "network_")
    bank = evaluation_bank(networks, early_exit, sampling)
    move_to_device(hardware, *networks.values())
    meter = make_meter(extractor, reference, examples, settings.images, noise, sampling, hardware)
    parameters = {
        "n_images": meter.n_images,
        "more_metrics": settings.more_metrics,
        "grid_images": settings.grid_images,
        "sampling": sampling.model_dump(),
        "hardware": hardware.of_sampling,
    }
    inputs = {"reference": reference.sha256, "train": train.sha256, "held_out": held_out.sha256}
    inputs["examples"] = examples.sha256
    work = WorkDir(work_folder, "evaluation", parameters, inputs, CODE)
    real = RealImages(extractor, reference, train.images, held_out.images)
    asked = image_labels(range(meter.n_images), bank.classes)
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
                    **real.judge(measured, settings.more_metrics),
                    **_named_as_asked(extractor, measured, asked),
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


def time_batches(
    evaluated: list[dict[str, Any]],
    settings: Evaluation,
    early_exit: EarlyExit,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    examples: Examples,
    work_folder: Path,
    **stored: StoredNetwork,
) -> list[dict[str, Any]]:
    """For every batch of `timed_batches`: its images; the seconds that every plan which is timed takes to draw it,
    and the multiply-accumulates an image that it executes; and the profile of the deep and of the shallow
    network alone.
    """
    networks = _by_name(stored, "network_")
    bank = evaluation_bank(networks, early_exit, sampling)
    device, schedule, shape_chw = move_to_device(hardware, *networks.values()), noise.schedule(), examples.shape_chw
    plans = [SamplingPlan.from_dict(described) for described in evaluated if described["timed"]]
    denoisers = {plan.name: bank.denoiser(plan) for plan in plans}
    alone = {role: next(one["name"] for one in evaluated if one["role"] == role) for role in ("deep", "shallow")}

    def measure(images: int) -> dict[str, Any]:
        logger.info("seconds of %d plans at a batch of %d", len(plans), images)
        gmacs = {}  # of these images: those that leave early differ from others

        def draw(plan: SamplingPlan) -> Tensor:
            drawn = (range(images), 0, images, device, None, sampling.precision)
            samples = sample(denoisers[plan.name], plan.solver, schedule, shape_chw, *drawn)
            gmacs[plan.name] = samples.trace.gmacs_per_image
            return samples.images

        runs = {plan.name: partial(draw, plan) for plan in plans}
        seconds = time_in_turns(runs, TIMED_RUNS)
        profiles = profile_in_turns({role: runs[name] for role, name in alone.items()}, TIMED_RUNS)
        profile = {role: asdict(own) for role, own in profiles.items()}
        return {"images": images, "seconds": seconds, "gmacs": gmacs, "profile": profile}

    parameters = {
        "plans": [_key(plan, networks) for plan in plans],
        "guidance": [bank.guidance_of(plan) for plan in plans],
        "precision": sampling.precision,
        "hardware": hardware.of_sampling,
    }
    work = WorkDir(work_folder, "timed_batches", parameters, {}, CODE)
    return [work.remember(f"batch_{images}", partial(measure, images)) for images in settings.timed_batches]


def summarise_timings(
    evaluated: list[dict[str, Any]],
    seconds: dict[str, list[float]],
    batches: list[dict[str, Any]],
    **training: dict[str, float],
) -> dict[str, Any]:
    """Median seconds an image and speed-up against the baseline, block by block; the same at every timed batch, with
    their extremes, rounds, the GMACs executed and the profiles; seconds of every training.
    """
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
            "seconds_blocks": own.tolist(),
        }
    by_batch = []
    for timed in batches:
        an_image = {name: np.array(rounds) / timed["images"] for name, rounds in timed["seconds"].items()}
        plans = {
            name: {
                "seconds_per_image": float(np.median(s)),
                "low": float(s.min()),
                "high": float(s.max()),
                "gmacs": timed["gmacs"][name],
                "rounds": s.tolist(),
            }
            for name, s in an_image.items()
        }
        by_batch.append({"images": timed["images"], "plans": plans, "profile": timed["profile"]})
    by_network = _by_name(training, "seconds_")
    trained = {name: value["seconds"] for name, value in by_network.items()}
    return {"sampling": sampling, "by_batch": by_batch, "training_seconds": trained}


def _named_as_asked(extractor: FeatureExtractor, measured: Measured, asked: Tensor | None) -> dict[str, float]:
    """Share of the images that the classifier gives the label they were drawn with, where there is either."""
    if asked is None or not isinstance(extractor, FeatureClassifier) or extractor.config.learns != "classes":
        return {}
    return {LABEL_ACCURACY: extractor.share_named(measured.features, asked)}


def _by_name(stored: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}


def evaluation_bank(networks: Mapping[str, StoredNetwork], early_exit: EarlyExit, sampling: Sampling) -> NetworkBank:
    backbones = {name: network for name, network in networks.items() if name != EXITS}
    return NetworkBank(backbones, networks[EXITS], early_exit.backbone, sampling.guidance_by(backbones))


def _served_by(plan: SamplingPlan) -> list[str]:
    """The distinct networks that a plan is made of; one that serves by several of its parts counts once."""
    exits = [] if plan.exit_threshold is None else [EXITS]
    return [*dict.fromkeys(map(network_of, plan.schedule.assignment(plan.grid))), *exits]


def _trained(served_by: list[str], networks: Mapping[str, StoredNetwork]) -> list[str]:
    """Those that had to be trained: also what a network was fine-tuned from, and its teacher."""
    headers = [networks[name].header for name in served_by]
    sources = {sha256 for header in headers for sha256 in (header.backbone_sha256, header.teacher_sha256)} - {None}
    return [*served_by, *(n for n, network in networks.items() if n not in served_by and network.sha256 in sources)]


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
    """The plan, and beside what makes it: nfe, switches, runs, what must be said, weights, guidance, and its price."""
    plan = evaluated.plan
    served_by = _served_by(plan)
    return {
        **plan.to_dict(),
        "role": evaluated.role,
        "control_of": evaluated.control_of,
        "timed": evaluated.timed,
        "runs": plan.runs,
        "nfe": len(plan.grid),
        "k": plan.switch,
        "switches": plan.switches,
        "note": bank.note(plan),
        "weights": networks[served_by[0]].header.weights,
        "guidance": bank.guidance_of(plan),
        "resident_parameters": bank.resident_parameters(plan),
        "training_gmacs": sum(curves[name]["training_gmacs"] for name in _trained(served_by, networks)),
    }
