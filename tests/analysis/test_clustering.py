import itertools

import numpy as np
import pytest

from duodiff_pipeline.analysis.change_point import ChangePoint
from duodiff_pipeline.analysis.clustering import (
    ClusterWeight,
    SimilarityEdges,
    contiguous_clusters,
    edges_from_change_point,
    gradient_cluster_edges,
    log_snr_cluster_edges,
    middle_element_clusters,
    similarity_cluster_edges,
    similarity_curves,
    similarity_edges,
    uniform_log_snr_edges,
    uniform_timestep_edges,
)
from duodiff_pipeline.analysis.denoiser_similarity import DenoiserDifferences
from duodiff_pipeline.analysis.optimal_denoiser import Floats
from duodiff_pipeline.diffusion.noise import NoiseSchedule

NOISES = [NoiseSchedule("linear", 1000), NoiseSchedule("cosine", 1000), NoiseSchedule("linear", 50)]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_uniform_edges_fall_inside_the_axis(noise: NoiseSchedule, stages: int) -> None:
    for edges in (uniform_timestep_edges(noise, stages), uniform_log_snr_edges(noise, stages)):
        assert len(edges) == stages - 1
        axis = [noise.timesteps - 1, *edges, 0]
        assert all(high > low for high, low in itertools.pairwise(axis))


@pytest.mark.parametrize("stages", [2, 4, 5])
def test_uniform_timestep_stages_serve_equally_many(stages: int) -> None:
    edges = np.array(uniform_timestep_edges(NOISES[0], stages))
    stage = (np.arange(1000)[:, None] < edges).sum(axis=1)
    assert np.bincount(stage).tolist() == [1000 // stages] * stages


@pytest.mark.parametrize("noise", NOISES)
def test_uniform_log_snr_stages_span_equal_ranges(noise: NoiseSchedule) -> None:
    edges = uniform_log_snr_edges(noise, 4)
    levels = np.interp([noise.timesteps - 1, *edges, 0], np.arange(noise.timesteps), noise.log_snr)
    np.testing.assert_allclose(np.diff(levels), (noise.log_snr[0] - noise.log_snr[-1]) / 4)


@pytest.mark.parametrize("stages", [0, 51])
def test_impossible_stage_counts_are_refused(stages: int) -> None:
    for edges in (uniform_timestep_edges, uniform_log_snr_edges):
        with pytest.raises(ValueError, match="allowed are 1 to 50"):
            edges(NOISES[2], stages)


def test_edges_from_change_point() -> None:
    assert edges_from_change_point(ChangePoint(found=False, message="none")) == ()
    assert edges_from_change_point(ChangePoint(found=True, message="", k=5, timestep_edge=612.5)) == (612.5,)


def differences(timesteps: list[int], like_data: list[float], like_noise: list[float]) -> DenoiserDifferences:
    """Draws of which the given shares of 100 coordinates are alike, that is, differ by 0 and not by 1."""
    coordinates = np.arange(100)
    to_ends = [(coordinates >= 100 * np.array(alike)[:, None]).astype(np.float32) for alike in (like_data, like_noise)]
    return DenoiserDifferences(np.array(timesteps), *to_ends, NOISES[0], "centred", "", 1)


DRAWS = differences([10, 20, 20, 30, 40], [1, 0.9, 0.7, 0.2, 0], [0, 0.1, 0.1, 0.8, 1])


def test_running_means_written_out() -> None:
    curves = similarity_curves(DRAWS, 0.5)
    assert curves["timestep"].tolist() == [20, 30, 40]
    np.testing.assert_allclose(curves["to_data"], [1, 2.6 / 3, 2.8 / 4])
    np.testing.assert_allclose(curves["to_noise"], [2 / 4, 1.8 / 2, 1])


@pytest.mark.parametrize(
    ("alpha", "t1", "t2", "edges"),
    [
        (0.85, 30, 30, ()),
        (0.9, 20, 30, (30, 20)),
        (0.95, 20, 40, (40, 20)),
        (0.5, 40, 20, ()),
    ],
)
def test_similarity_edges(alpha: float, t1: float, t2: float, edges: tuple[float, ...]) -> None:
    found = similarity_edges(DRAWS, 0.5, alpha)
    assert (found.t1, found.t2, found.edges) == (t1, t2, edges)
    assert f"leave {'a' if edges else 'no'} middle stage" in found.message


def test_similarity_edges_that_do_not_exist() -> None:
    assert similarity_edges(differences([1, 2, 3], [0, 0, 0], [0, 0, 1]), 0.5, 0.9) == SimilarityEdges(
        None, 3, "no timestep is like data at eta 0.5, alpha 0.9"
    )
    found = similarity_edges(differences([1, 2, 3], [1, 0, 0], [0, 0, 0]), 0.5, 0.9)
    assert (found.t1, found.t2, found.edges) == (2, None, ())
    assert "no timestep is like noise" in found.message


def random_similarity(size: int, seed: int) -> Floats:
    values = np.random.default_rng(seed).uniform(0, 1, (size, size))
    similarity = (values + values.T) / 2
    np.fill_diagonal(similarity, 1)
    return similarity


def brute_force(similarity: Floats, clusters: int, weight: ClusterWeight) -> tuple[int, ...]:
    def total(starts: tuple[int, ...]) -> float:
        bounds = [*starts, len(similarity)]
        means = [(float(similarity[a:b, a:b].mean()), b - a) for a, b in itertools.pairwise(bounds)]
        return sum(mean * (size if weight == "node" else 1) for mean, size in means)

    return max(((0, *cuts) for cuts in itertools.combinations(range(1, len(similarity)), clusters - 1)), key=total)


@pytest.mark.parametrize("weight", ["cluster", "node"])
@pytest.mark.parametrize("clusters", [1, 2, 3, 4])
def test_dynamic_programme_equals_brute_force(clusters: int, weight: ClusterWeight) -> None:
    for seed in range(10):
        for size in (4, 9, 14):
            similarity = random_similarity(size, seed)
            assert contiguous_clusters(similarity, clusters, weight) == brute_force(similarity, clusters, weight)


@pytest.mark.parametrize("weight", ["cluster", "node"])
def test_blocks_of_alike_nodes_are_found(weight: ClusterWeight) -> None:
    block = np.repeat([0, 1, 2], [3, 6, 4])
    similarity = np.where(block[:, None] == block, 1.0, 0.1)
    assert contiguous_clusters(similarity, 3, weight) == (0, 3, 9)
    nodes = np.arange(13) * 10
    assert similarity_cluster_edges(similarity, nodes, 3, weight) == (85, 25)
    assert similarity_cluster_edges(similarity, nodes, 1, weight) == ()


def test_as_many_clusters_as_nodes() -> None:
    assert contiguous_clusters(random_similarity(4, 0), 4, "node") == (0, 1, 2, 3)


def test_impossible_clusterings_are_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        contiguous_clusters(np.ones((3, 4)), 2, "node")
    for clusters in (0, 4):
        with pytest.raises(ValueError, match="allowed are 1 to 3"):
            contiguous_clusters(np.ones((3, 3)), clusters, "node")


def brute_force_to_middle(distance: Floats, clusters: int) -> tuple[int, ...]:
    """The rivals' objective, written out as section B of the paper's code has it."""
    size = len(distance)

    def total(starts: tuple[int, ...]) -> float:
        cost = 0.0
        for a, b in itertools.pairwise([*starts, size]):
            if not size // (2 * clusters) <= b - a <= -(-3 * size // (2 * clusters)):
                return np.inf
            cost += sum(distance[i, (a + b) // 2] for i in range(a, b))
        return cost

    return min(((0, *cuts) for cuts in itertools.combinations(range(1, size), clusters - 1)), key=total)


@pytest.mark.parametrize("clusters", [1, 2, 3, 4])
def test_middle_element_clusters_equal_brute_force(clusters: int) -> None:
    for seed in range(8):
        for size in (4, 9, 13):
            distance = np.random.default_rng(seed).uniform(0, 1, (size, size))  # not symmetric, to tell its sides apart
            assert middle_element_clusters(distance, clusters) == brute_force_to_middle(distance, clusters)


def test_the_rival_by_snr_has_the_published_edges() -> None:
    """0.348 and 0.709 on the linear schedule (arXiv 2312.09181, ablation of clusterings)."""
    np.testing.assert_allclose(np.array(log_snr_cluster_edges(NOISES[0], 3)) / 1000, [0.709, 0.348], atol=0.002)


def test_uniform_timesteps_are_the_rival_by_timestep() -> None:
    t = np.arange(1000.0)
    assert middle_element_clusters(np.abs(t[:, None] - t), 3) == (0, 333, 666)
    assert uniform_timestep_edges(NOISES[0], 3) == pytest.approx((666.7, 333.3), abs=0.1)


def test_gradients_of_three_kinds_are_parted() -> None:
    kind = np.repeat([0, 1, 2], [4, 6, 5])
    affinity = np.where(kind[:, None] == kind, 0.9, -0.1)
    assert gradient_cluster_edges(affinity, np.arange(15) * 10, 3) == (95, 35)
