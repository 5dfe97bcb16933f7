"""Candidate edges between stages, by every method."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...analysis.change_point import ChangePoint
from ...analysis.clustering import (
    Edges,
    edges_from_change_point,
    gradient_cluster_edges,
    log_snr_cluster_edges,
    similarity_cluster_edges,
    similarity_curves,
    similarity_edges,
    uniform_log_snr_edges,
    uniform_timestep_edges,
)
from ...analysis.denoiser_similarity import DenoiserDifferences, node_predictions
from ...analysis.gradient_affinity import gradient_affinity
from ...config import Noise, TimestepClustering
from ...diffusion.denoiser import classes_of
from ...diffusion.noise import NoiseSchedule
from ...diffusion.random import keyed_generator
from ...images.examples import Examples
from ...networks.files import StoredNetwork
from ..optimal_denoiser.nodes import denoiser_of, require_drawn_on

# Edges as shares of the timesteps, whatever their noise: DuoDiff's example has the shallow network serve the first 300
# of 1000 (arXiv 2410.09633), and the multi-stage network's stages on CIFAR-10 are those of arXiv 2312.09181
PUBLISHED = {"DuoDiff": (0.7,), "multi-stage": (0.6308, 0.442)}


def cluster_timesteps(
    train: Examples,
    differences: DenoiserDifferences,
    change_points: list[dict[str, Any]],
    network: StoredNetwork,
    settings: TimestepClustering,
    noise: Noise,
    backbones: Sequence[str],
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Candidate edges, each with the method and hyper-parameters that gave it, and the similarity curves.

    network: whose gradients are held against one another.
    There are candidates of 2 to as many stages as there are backbones to choose from, where a method gives them.
    """
    schedule, stage_counts = noise.schedule(), range(2, len(backbones) + 1)
    candidates = candidates_beforehand(schedule, stage_counts)
    nodes = np.linspace(0, schedule.timesteps - 1, settings.gradient_nodes).round().astype(np.int64)
    rng = keyed_generator(settings.seed, "gradient affinity")
    drawn = torch.from_numpy(rng.integers(len(train), size=settings.gradient_images))
    x0, labels = train.x0(drawn, rng), train.labels[drawn] if classes_of(network.module) else None
    eps = torch.from_numpy(rng.standard_normal(x0.shape, np.float32))
    affinity = gradient_affinity(network.module, schedule, x0, eps, nodes, labels)
    candidates += [
        _candidate("gradient_affinity", {}, gradient_cluster_edges(affinity, nodes, n)) for n in stage_counts
    ]
    for row in change_points:
        found = ChangePoint(**{name: value for name, value in row.items() if name != "threshold"})
        if edges := edges_from_change_point(found):
            candidates.append(_candidate("exit_statistics", {"threshold": row["threshold"]}, edges))

    require_drawn_on(differences, train, schedule, settings.data_range, settings.images)
    denoiser = denoiser_of(train, schedule, settings.data_range, settings.images)
    predictions = node_predictions(denoiser, settings.nodes, min(settings.draws, settings.node_draws), settings.seed)
    for eta in settings.etas:
        similarity = predictions.similarity(eta)
        for n in stage_counts:
            edges = similarity_cluster_edges(similarity, predictions.nodes, n, "node")
            candidates.append(_candidate("optimal_denoiser_clusters", {"eta": eta}, edges))
        for alpha in settings.alphas:
            three_stages = similarity_edges(differences, eta, alpha).edges  # none where there is no middle stage
            candidates += [
                _candidate("optimal_denoiser", {"eta": eta, "alpha": alpha, "end": end}, (edge,))
                for end, edge in zip(("noise", "data"), three_stages, strict=False)
            ]
            if three_stages and 3 in stage_counts:
                candidates.append(_candidate("optimal_denoiser", {"eta": eta, "alpha": alpha}, three_stages))
    curves = pd.concat(
        [similarity_curves(differences, eta).assign(eta=eta) for eta in settings.etas], ignore_index=True
    )
    return candidates, curves


def candidates_beforehand(schedule: NoiseSchedule, stage_counts: Sequence[int]) -> list[dict[str, Any]]:
    """What needs neither images nor networks."""
    candidates = [_candidate("uniform_timestep", {}, uniform_timestep_edges(schedule, n)) for n in stage_counts]
    candidates += [_candidate("uniform_log_snr", {}, uniform_log_snr_edges(schedule, n)) for n in stage_counts]
    candidates += [_candidate("log_snr_clusters", {}, log_snr_cluster_edges(schedule, n)) for n in stage_counts]
    for paper, share_of_timesteps in PUBLISHED.items():
        if len(share_of_timesteps) + 1 in stage_counts:
            edges = tuple(share * schedule.timesteps for share in share_of_timesteps)
            candidates.append(_candidate("papers", {"of": paper}, edges))
    return candidates


def _candidate(method: str, hyper_parameters: dict[str, Any], edges: Edges) -> dict[str, Any]:
    stages = len(edges) + 1
    shown = " ".join(f"{name}={value}" for name, value in hyper_parameters.items())
    label = ", ".join([f"{method} of {stages} stages", *([shown] if shown else [])])
    return {"label": label, "method": method, **hyper_parameters, "stages": stages, "edges": list(edges)}
