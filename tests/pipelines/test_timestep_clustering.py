"""Candidate edges of every method, for as many stages as there are backbones to choose from."""

import itertools

import pytest
import torch

from duodiff_pipeline.config import Noise, TimestepClustering
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.pipelines.optimal_denoiser.nodes import measure_denoisers
from duodiff_pipeline.pipelines.timestep_clustering.nodes import cluster_timesteps

FOUND = {"threshold": 0.1, "found": True, "message": "", "k": 5, "timestep_edge": 61.5}
NONE = {"threshold": 0.2, "found": False, "message": "none"}
SETTINGS = TimestepClustering(
    seed=0,
    draws=60,
    nodes=8,
    node_draws=8,
    data_range="centred",
    etas=(0.03, 0.3),
    alphas=(0.6,),
    gradient_nodes=6,
    gradient_images=4,
)
NOISE = Noise(kind="cosine", timesteps=100)


@pytest.fixture(scope="module")
def train() -> ImagePack:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return ImagePack(images, torch.zeros(12, dtype=torch.int64), "made up", "train", "none")


@pytest.fixture(scope="module")
def candidates(train, make_uvit, make_stored):
    differences = measure_denoisers(train, SETTINGS.draws, SETTINGS.data_range, SETTINGS.seed, SETTINGS.images, NOISE)
    network = make_stored(make_uvit(image_size=4))

    def make(train, count, settings=SETTINGS):
        names = ["a", "b", "c", "d"][:count]
        return cluster_timesteps(train, differences, [FOUND, NONE], network, settings, NOISE, names)[0]

    return make


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_method_gives_candidates_of_the_stages_it_can(train, candidates, count):
    found = candidates(train, count)
    stages = {
        method: sorted({candidate["stages"] for candidate in own})
        for method, own in itertools.groupby(sorted(found, key=lambda c: c["method"]), key=lambda c: c["method"])
    }
    every = list(range(2, count + 1))
    assert stages == {
        "exit_statistics": [2],
        "gradient_affinity": every,
        "log_snr_clusters": every,
        "optimal_denoiser": [2, 3] if count >= 3 else [2],
        "optimal_denoiser_clusters": every,
        "papers": [2, 3] if count >= 3 else [2],
        "uniform_log_snr": every,
        "uniform_timestep": every,
    }
    assert len({candidate["label"] for candidate in found}) == len(found)
    for candidate in found:
        assert len(candidate["edges"]) == candidate["stages"] - 1
        assert all(0 < edge < 100 for edge in candidate["edges"])
        assert candidate["edges"] == sorted(set(candidate["edges"]), reverse=True)


def test_the_three_published_stages_stand_beside_each_of_their_edges_alone(train, candidates):
    found = [candidate for candidate in candidates(train, 3) if candidate["method"] == "optimal_denoiser"]
    for eta in {candidate["eta"] for candidate in found}:
        noise, data, both = sorted(
            (c for c in found if c["eta"] == eta), key=lambda c: (c["stages"], c.get("end") == "data")
        )
        assert both["edges"] == noise["edges"] + data["edges"]
        assert (noise["end"], data["end"], "end" in both) == ("noise", "data", False)


def test_draws_of_another_data_range_are_refused(train, candidates):
    with pytest.raises(InputError, match="run the pipeline optimal_denoiser again"):
        candidates(train, 2, SETTINGS.model_copy(update={"data_range": "unit"}))
