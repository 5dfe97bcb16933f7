"""Candidate stage edges on the timestep axis, by every method that the search chooses from.

Edges are timesteps e_1 > e_2 > ... inside (0, T-1], stage j serves e_j > n >= e_{j+1}, so K stages have K-1 edges
and the first stage, the noisiest, serves n >= e_1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ..diffusion.noise import NoiseSchedule
from .change_point import ChangePoint
from .denoiser_similarity import DenoiserDifferences
from .optimal_denoiser import Floats, Ints

Edges = tuple[float, ...]
ClusterWeight = Literal["cluster", "node"]


def uniform_timestep_edges(noise: NoiseSchedule, stages: int) -> Edges:
    """Stages that serve equally many timesteps. Raises ValueError for fewer than 1 stage or more than timesteps."""
    _check_stages(stages, noise.timesteps)
    return tuple(noise.timesteps * (stages - j) / stages for j in range(1, stages))


def uniform_log_snr_edges(noise: NoiseSchedule, stages: int) -> Edges:
    """Stages that span equal ranges of logSNR. Raises ValueError for fewer than 1 stage or more than timesteps."""
    _check_stages(stages, noise.timesteps)
    levels = np.linspace(noise.log_snr[-1], noise.log_snr[0], stages + 1)[1:-1]
    return _edges(np.interp(levels, noise.log_snr[::-1], np.arange(noise.timesteps)[::-1]))


def log_snr_cluster_edges(noise: NoiseSchedule, stages: int) -> Edges:
    """The paper's rival by SNR: `middle_element_clusters` of (as there, up to 1000) timesteps by |logSNR_n - logSNR_c|.

    Raises ValueError as `middle_element_clusters` does.
    """
    nodes = np.linspace(0, noise.timesteps - 1, min(noise.timesteps, 1000)).round().astype(np.int64)
    level = noise.log_snr[nodes]
    return _between(nodes, middle_element_clusters(np.abs(level[:, None] - level[None, :]), stages))


def gradient_cluster_edges(affinity_gg: Floats, nodes: Ints, stages: int) -> Edges:
    """The paper's rival by gradient affinity (see `gradient_affinity`), of nodes (G,), rising timesteps.

    Raises ValueError as `middle_element_clusters` does.
    """
    return _between(nodes, middle_element_clusters(-affinity_gg, stages))


def edges_from_change_point(change: ChangePoint) -> Edges:
    """The one edge that exit statistics suggest, or none."""
    return () if change.timestep_edge is None else (change.timestep_edge,)


@dataclass(frozen=True)
class SimilarityEdges:
    """The paper's three stages: [t2, T-1] like noise, [t1, t2) the middle, [0, t1) like data.

    t1, t2: drawn timesteps, None where no timestep is like that end. The message says which of it holds.
    """

    t1: float | None
    t2: float | None
    message: str

    @property
    def edges(self) -> Edges:
        """(t2, t1), or none where one is missing or they leave no middle."""
        return (self.t2, self.t1) if self.t1 is not None and self.t2 is not None and self.t1 < self.t2 else ()


def similarity_curves(differences: DenoiserDifferences, eta: float) -> pd.DataFrame:
    """Running mean similarities at every drawn timestep tau but the first, rising.

    to_data: mean of S(n, 0) over draws with n < tau; to_noise: mean of S(n, T-1) over draws with n >= tau.
    """
    taus, first = np.unique(differences.timesteps, return_index=True)
    to_data = np.cumsum((differences.to_data <= eta).mean(axis=1))
    to_noise = np.cumsum((differences.to_noise <= eta).mean(axis=1)[::-1])[::-1]
    taus, first = taus[1:], first[1:]
    return pd.DataFrame(
        {
            "timestep": taus,
            "to_data": to_data[first - 1] / first,
            "to_noise": to_noise[first] / (len(differences.timesteps) - first),
        }
    )


def similarity_edges(differences: DenoiserDifferences, eta: float, alpha: float) -> SimilarityEdges:
    """Three stages by similarity to the optimal denoisers of both ends (arXiv 2312.09181, Algorithm 1).

    t1 is the largest tau with to_data >= alpha, t2 the smallest with to_noise >= alpha (see `similarity_curves`).
    """
    curves = similarity_curves(differences, eta)
    taus = curves["timestep"].to_numpy(np.float64)
    like_data, like_noise = taus[curves["to_data"] >= alpha], taus[curves["to_noise"] >= alpha]
    t1 = float(like_data[-1]) if len(like_data) else None
    t2 = float(like_noise[0]) if len(like_noise) else None
    if t1 is None or t2 is None:
        finding = f"no timestep is like {'data' if t1 is None else 'noise'}"
    else:
        finding = f"t1 = {t1:g} and t2 = {t2:g} leave {'a' if t1 < t2 else 'no'} middle stage"
    return SimilarityEdges(t1, t2, f"{finding} at eta {eta:g}, alpha {alpha:g}")


def similarity_cluster_edges(similarity_gg: Floats, nodes: Ints, stages: int, weight: ClusterWeight) -> Edges:
    """Edges halfway between the nodes (G,), rising timesteps, that `contiguous_clusters` parts.

    Raises ValueError as `contiguous_clusters` does.
    """
    return _between(nodes, contiguous_clusters(similarity_gg, stages, weight))


def contiguous_clusters(similarity_gg: Floats, clusters: int, weight: ClusterWeight) -> tuple[int, ...]:
    """The partition of G ordered nodes into contiguous clusters with the largest sum of mean similarities.

    The mean is over all pairs of a cluster's nodes, each with itself included. By `weight` every cluster counts once
    (the objective of the paper's repository, `graph_vis.py`) or as often as it has nodes. The former likes single
    nodes, whose mean is 1: on digits it cuts them off at an end whatever eta is. The latter does not.

    Returns the clusters' first nodes, from 0. Exact: a dynamic programme over prefix sums, O(G^2 * clusters).
    Raises ValueError for similarities that are not square, and for more clusters than nodes or fewer than 1.
    """
    size = len(similarity_gg)
    _check_clusters(similarity_gg, clusters)
    sums = np.zeros((size + 1, size + 1))
    sums[1:, 1:] = similarity_gg.cumsum(axis=0).cumsum(axis=1)
    start, stop = np.indices(sums.shape)
    nodes, corner = np.maximum(stop - start, 1), np.diag(sums)
    means = (corner[None, :] - sums - sums.T + corner[:, None]) / nodes**2  # of the cluster [start, stop)
    worth = np.where(stop > start, means * nodes if weight == "node" else means, -np.inf)

    return _best_partition(worth, clusters)


def middle_element_clusters(distance_gg: Floats, clusters: int) -> tuple[int, ...]:
    """The partition of G ordered nodes into contiguous clusters with the least sum of distances to the middle element.

    So the paper's repository clusters by its rivals: the cluster [a, b) has the middle element (a + b) // 2, and no
    fewer than G // 2K nodes and no more than 3 G / 2K, rounded up.

    Returns the clusters' first nodes, from 0; exact, O(G^2 * clusters). Raises ValueError for distances that are not
    square, and for more clusters than nodes or fewer than 1.
    """
    size = len(distance_gg)
    _check_clusters(distance_gg, clusters)
    to_middle = np.zeros((size, size + 1))  # [c, stop]: distances of the nodes before stop to c
    to_middle[:, 1:] = distance_gg.T.cumsum(axis=1)
    start, stop = np.indices((size + 1, size + 1))
    middle, nodes = np.minimum((start + stop) // 2, size - 1), stop - start
    cost = to_middle[middle, stop] - to_middle[middle, start]
    allowed = (nodes >= max(1, size // (2 * clusters))) & (nodes <= -(-3 * size // (2 * clusters)))
    return _best_partition(np.where(allowed, -cost, -np.inf), clusters)


def _best_partition(worth: Floats, clusters: int) -> tuple[int, ...]:
    """First nodes of the contiguous clusters with the largest sum of worth[start, stop], by dynamic programming."""
    size = len(worth) - 1
    best, origins = worth[0], []
    for _ in range(clusters - 1):
        totals = best[:, None] + worth
        origins.append(totals.argmax(axis=0))
        best = totals.max(axis=0)
    starts = [size]
    for origin in reversed(origins):
        starts.append(int(origin[starts[-1]]))
    return (0, *reversed(starts[1:]))


def _between(nodes: Ints, starts: tuple[int, ...]) -> Edges:
    """Edges halfway between the nodes that clusters part, noise to data."""
    return _edges(np.array([(nodes[start - 1] + nodes[start]) / 2 for start in reversed(starts[1:])]))


def _check_clusters(square_gg: Floats, clusters: int) -> None:
    size = len(square_gg)
    if square_gg.shape != (size, size):
        raise ValueError(f"similarities must be (G, G), not {square_gg.shape}")
    if not 1 <= clusters <= size:
        raise ValueError(f"{clusters} clusters of {size} nodes: allowed are 1 to {size}")


def _edges(timesteps: Floats) -> Edges:
    return tuple(float(timestep) for timestep in timesteps)


def _check_stages(stages: int, timesteps: int) -> None:
    if not 1 <= stages <= timesteps:
        raise ValueError(f"{stages} stages on {timesteps} timesteps: allowed are 1 to {timesteps}")
