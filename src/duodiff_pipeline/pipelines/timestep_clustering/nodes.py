"""Candidate edges between two stages, by every method."""

from typing import Any

import pandas as pd

from ...analysis.change_point import ChangePoint
from ...analysis.clustering import (
    edges_from_change_point,
    similarity_cluster_edges,
    similarity_curves,
    similarity_edges,
    uniform_log_snr_edges,
    uniform_timestep_edges,
)
from ...analysis.denoiser_similarity import denoiser_differences, node_predictions
from ...analysis.optimal_denoiser import OptimalDenoiser
from ...config import Noise, TimestepClustering
from ...images.pack import ImagePack
from ...images.pixels import from_uint8

STAGES = 2


def cluster_timesteps(
    train: ImagePack, change_points: list[dict[str, Any]], settings: TimestepClustering, noise: Noise, seed: int
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Candidate edges, each with the method and hyper-parameters that gave it, and the similarity curves."""
    schedule = noise.schedule()
    candidates = [_candidate("uniform_timestep", {}, *uniform_timestep_edges(schedule, STAGES))]
    candidates += [_candidate("uniform_log_snr", {}, *uniform_log_snr_edges(schedule, STAGES))]
    for row in change_points:
        found = ChangePoint(**{name: value for name, value in row.items() if name != "threshold"})
        candidates += [
            _candidate("exit_statistics", {"threshold": row["threshold"]}, edge)
            for edge in edges_from_change_point(found)
        ]

    pixels = from_uint8(train.images).flatten(1).double().numpy()
    denoiser = OptimalDenoiser(pixels, schedule)
    differences = denoiser_differences(denoiser, settings.draws, seed)
    predictions = node_predictions(denoiser, settings.nodes, min(settings.draws, settings.node_draws), seed)
    for eta in settings.etas:
        edges = similarity_cluster_edges(predictions.similarity(eta), predictions.nodes, STAGES, "node")
        candidates += [_candidate("optimal_denoiser_clusters", {"eta": eta}, edge) for edge in edges]
        for alpha in settings.alphas:
            three_stages = similarity_edges(differences, eta, alpha).edges  # none where there is no middle stage
            candidates += [
                _candidate("optimal_denoiser", {"eta": eta, "alpha": alpha, "end": end}, edge)
                for end, edge in zip(("noise", "data"), three_stages, strict=False)
            ]
    curves = pd.concat(
        [similarity_curves(differences, eta).assign(eta=eta) for eta in settings.etas], ignore_index=True
    )
    return candidates, curves


def _candidate(method: str, hyper_parameters: dict[str, Any], edge: float) -> dict[str, Any]:
    shown = " ".join(f"{name}={value}" for name, value in hyper_parameters.items())
    return {"label": f"{method}: {shown}" if shown else method, "method": method, **hyper_parameters, "edge": edge}
