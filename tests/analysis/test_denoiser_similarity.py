import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

from duodiff_pipeline.analysis.clustering import similarity_edges
from duodiff_pipeline.analysis.denoiser_similarity import (
    BATCH_DRAWS,
    DenoiserDifferences,
    denoiser_differences,
    node_predictions,
)
from duodiff_pipeline.analysis.optimal_denoiser import OptimalDenoiser
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError

NOISE = NoiseSchedule("linear", 100)


@pytest.fixture(scope="module")
def denoiser() -> OptimalDenoiser:
    return OptimalDenoiser(np.random.default_rng(0).uniform(-1, 1, (60, 12)), NOISE)


def test_differences_fit_the_closed_form_of_the_data_end(denoiser: OptimalDenoiser) -> None:
    """eps*_0 is the true noise, so the difference to it is s_n |y - E[y | x_n]| / r_n: small towards both ends."""
    found = denoiser_differences(denoiser, 600, seed=0)
    assert (np.diff(found.timesteps) >= 0).all()
    assert found.timesteps.min() <= 3
    assert found.timesteps.max() >= 96
    assert found.to_data[:10].max() < 1e-5
    bound = 2 * np.sqrt(NOISE.abar / (1 - NOISE.abar))[found.timesteps]
    assert (found.to_data.max(axis=1) <= bound + 1e-5).all()


def test_at_the_ends_the_denoiser_equals_itself(denoiser: OptimalDenoiser) -> None:
    found = denoiser_differences(denoiser, 600, seed=0)
    assert {0, 99} <= set(found.timesteps)
    assert (found.to_data[found.timesteps == 0] == 0).all()
    assert (found.to_noise[found.timesteps == 99] == 0).all()


def test_every_draw_is_kept_so_that_any_eta_and_alpha_is_evaluated_later(denoiser: OptimalDenoiser, tmp_path) -> None:
    found = denoiser_differences(denoiser, 300, seed=0, data_sha256="ab")
    found.save(tmp_path / "differences.safetensors")
    kept = DenoiserDifferences.load(tmp_path / "differences.safetensors")
    assert (kept.noise, kept.data_range, kept.data_sha256) == (NOISE, "centred", "ab")
    for eta in (0.01, 0.1, 1.0):
        for alpha in (0.5, 0.8):
            assert similarity_edges(kept, eta, alpha) == similarity_edges(found, eta, alpha)
    (tmp_path / "differences.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"differences\.safetensors is no denoiser differences file"):
        DenoiserDifferences.load(tmp_path / "differences.safetensors")


def test_differences_and_nodes_are_of_the_same_draws(denoiser: OptimalDenoiser) -> None:
    """With a node a timestep, the differences can be read off the nodes."""
    draws = BATCH_DRAWS + 10
    differences, predictions = denoiser_differences(denoiser, draws, seed=1), node_predictions(denoiser, 100, draws, 1)
    to_ends = [np.abs(predictions.eps - predictions.eps[end]) for end in (0, 99)]
    for row in (0, BATCH_DRAWS - 1, BATCH_DRAWS, draws - 1):
        n = differences.timesteps[row]
        for found, expected in zip((differences.to_data, differences.to_noise), to_ends, strict=True):
            assert np.abs(found[row] - expected[n]).max(axis=1).min() < 1e-5


def test_more_draws_extend_fewer(denoiser: OptimalDenoiser) -> None:
    few, many = (node_predictions(denoiser, 5, draws, seed=2).eps for draws in (20, 50))
    np.testing.assert_allclose(many[:, :20], few, atol=1e-6)
    other = node_predictions(denoiser, 5, 20, seed=3).eps
    assert np.abs(other - few).max() > 0.1


def test_node_similarity_is_the_share_of_near_coordinates(denoiser: OptimalDenoiser) -> None:
    predictions = node_predictions(denoiser, 7, 40, seed=0)
    assert predictions.nodes.tolist() == [0, 16, 33, 50, 66, 82, 99]
    similarity = predictions.similarity(0.1)
    assert (similarity == similarity.T).all()
    assert (np.diag(similarity) == 1).all()
    expected = np.mean([np.mean(np.abs(predictions.eps[2, k] - predictions.eps[4, k]) <= 0.1) for k in range(40)])
    assert similarity[2, 4] == pytest.approx(expected)
    assert (predictions.similarity(0.2) >= similarity).all()
    assert (predictions.similarity(100) == 1).all()


def test_impossible_requests_are_refused(denoiser: OptimalDenoiser) -> None:
    with pytest.raises(ValueError, match="0 draws"):
        denoiser_differences(denoiser, 0, seed=0)
    for nodes in (1, 101):
        with pytest.raises(ValueError, match="allowed are 2 to 100"):
            node_predictions(denoiser, nodes, 5, seed=0)


def test_digits_give_three_stages_in_seconds() -> None:
    pixels = load_digits().data[:1198] / 8 - 1
    denoiser = OptimalDenoiser(pixels, NoiseSchedule("linear", 1000))
    began = time.perf_counter()
    differences = denoiser_differences(denoiser, 2000, seed=0)
    node_predictions(denoiser, 21, 200, seed=0)
    assert time.perf_counter() - began < 20  # measured: 0.6
    edges = similarity_edges(differences, eta=2 / 256, alpha=0.8).edges
    again = similarity_edges(denoiser_differences(denoiser, 2000, seed=1), eta=2 / 256, alpha=0.8).edges
    assert len(edges) == 2
    np.testing.assert_allclose(edges, again, atol=25)  # two sets of draws agree
