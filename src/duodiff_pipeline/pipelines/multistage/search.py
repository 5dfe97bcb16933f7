"""The edges of one network by successive halving: all are trained for a while, and the better half goes on."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from ...analysis.clustering import (
    Edges,
    log_snr_cluster_edges,
    similarity_cluster_edges,
    similarity_edges,
    uniform_log_snr_edges,
    uniform_timestep_edges,
)
from ...analysis.denoiser_similarity import DenoiserDifferences, node_predictions
from ...config import Evaluation, HardwareSettings, Multistage, Noise, Sampling, TimestepClustering, Training
from ...diffusion.noise import NoiseSchedule
from ...diffusion.solvers import Solver
from ...diffusion.stages import StageSchedule
from ...errors import InputError
from ...images.examples import Examples
from ...metrics.extractor import FeatureExtractor
from ...metrics.reference import ReferenceStatistics
from ...networks.plans import NetworkBank, SamplingPlan
from ...search.halving import Candidate, distinct, halve, spread
from ...workdir import WorkDir
from ..measuring import make_meter, move_to_device
from ..optimal_denoiser.nodes import denoiser_of
from .training import train_stages

logger = logging.getLogger(__name__)

CODE = ["diffusion", "metrics", "networks", "search/halving.py", "pipelines/multistage/search.py"]


def search_edges(
    edges: dict[str, list[float]],
    differences: DenoiserDifferences,
    train: Examples,
    held_out: Examples,
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    settings: Multistage,
    clustering: TimestepClustering,
    evaluation: Evaluation,
    training: Training,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
) -> tuple[dict[str, list[float]], pd.DataFrame]:
    """All edges, those that were searched included, and one row a candidate and checkpoint it was trained to.

    edges: of the other networks. Columns: proposed_by, edges, checkpoint, training_gmacs, fid, goes_on.
    Raises InputError where no candidate lets every decoder serve.
    """
    name, schedule = settings.searched, noise.schedule()
    assert name is not None
    assert settings.search is not None
    solver = Solver(settings.solver, settings.sampling_steps[-1])
    proposed = _proposed(differences, clustering, len(settings.networks[name].decoder_widths), train, schedule)
    candidates = spread(distinct(proposed, solver.grid(schedule)), settings.search.trainings)
    if not candidates:
        raise InputError(
            f"multistage.search: no edges give each decoder of {name} one of the {solver.steps} timesteps of "
            f"{solver.name}: more sampling_steps, or fewer decoders"
        )
    logger.info("%d different candidates of %d proposals are trained", len(candidates), len(proposed))
    meter = make_meter(extractor, reference, held_out, evaluation.images, noise, sampling, hardware)
    parameters = {
        "n_images": meter.n_images,
        "seed": settings.search.seed,
        "solver": solver.to_dict(),
        "sampling": sampling.model_dump(),
        "hardware": hardware.of_sampling,
    }
    inputs = {"reference": reference.sha256, "held_out": held_out.sha256}
    work = WorkDir(work_folder, "edge_search", parameters, inputs, CODE)
    training_gmacs: dict[tuple[Edges, int], float] = {}

    def fid(own: Edges, checkpoint: int) -> float:
        logger.info("edges %s, to checkpoint %d", ", ".join(f"{edge:.0f}" for edge in own), checkpoint + 1)
        *networks, curve, _ = train_stages(
            {**edges, name: list(own)},
            train,
            settings,
            training,
            noise,
            hardware,
            work_folder,
            name,
            settings.seeds[0],
            checkpoint,
        )
        training_gmacs[own, checkpoint] = curve["checkpoints"][checkpoint]["training_gmacs"]
        network = networks[-1]
        plan = SamplingPlan(name, solver, StageSchedule.of_parts(name, own, schedule))

        def measure() -> dict[str, Any]:
            move_to_device(hardware, network)
            bank = NetworkBank({name: network}, guidance=sampling.guidance_by([name]))
            return {"fid": meter.measure(bank.denoiser(plan), solver, search_seed).fid}

        found: float = work.remember(network.sha256[:16], measure)["fid"]
        return found

    search_seed = settings.search.seed
    best, measured = halve(candidates, len(settings.checkpoints), fid)
    table = pd.DataFrame(
        [
            {
                "proposed_by": one.candidate.proposed_by,
                "edges": list(one.candidate.edges),
                "checkpoint": one.rung,
                "training_gmacs": training_gmacs[one.candidate.edges, one.rung],
                "fid": one.value,
                "goes_on": one.goes_on,
            }
            for one in measured
        ]
    )
    return {**edges, name: list(best.edges)}, table


def _proposed(
    differences: DenoiserDifferences,
    clustering: TimestepClustering,
    stages: int,
    train: Examples,
    schedule: NoiseSchedule,
) -> list[Candidate]:
    """Edges by every method that needs no trained network, and its hyper-parameters."""
    found = [
        Candidate("uniform timesteps", uniform_timestep_edges(schedule, stages)),
        Candidate("uniform logSNR", uniform_log_snr_edges(schedule, stages)),
        Candidate("clusters of logSNR", log_snr_cluster_edges(schedule, stages)),
    ]
    denoiser = denoiser_of(train, schedule, clustering.data_range, clustering.images)
    draws = min(clustering.draws, clustering.node_draws)
    predictions = node_predictions(denoiser, clustering.nodes, draws, clustering.seed)
    for eta in clustering.etas:
        clusters = similarity_cluster_edges(predictions.similarity(eta), predictions.nodes, stages, "node")
        found.append(Candidate(f"clusters of optimal denoisers, eta {eta:g}", clusters))
    if stages == 3:
        found += [
            Candidate(f"optimal denoisers, eta {eta:g}, alpha {alpha:g}", similar)
            for eta in clustering.etas
            for alpha in clustering.alphas
            if (similar := similarity_edges(differences, eta, alpha).edges)
        ]
    return found
