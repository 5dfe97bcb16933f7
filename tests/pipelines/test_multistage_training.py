"""The edges of the comparison's networks, and that all of them are trained for the same cost."""

import numpy as np
import pytest
import torch

from duodiff_pipeline.analysis.clustering import (
    log_snr_cluster_edges,
    similarity_curves,
    similarity_edges,
    uniform_timestep_edges,
)
from duodiff_pipeline.analysis.denoiser_similarity import DenoiserDifferences
from duodiff_pipeline.config import HardwareSettings, Multistage, Noise, TimestepClustering, Training
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.pipelines.multistage import training as multistage
from duodiff_pipeline.pipelines.multistage.nodes import edge_candidates
from duodiff_pipeline.reporting.figures_noise import edges_figure

STAGES = {"decoder_widths": (4, 8, 12)}
NETWORKS = {
    "unified": {"decoder_widths": (8,)},
    "optimal": {**STAGES, "edges": "optimal_denoiser"},
    "uniform": {**STAGES, "edges": "uniform"},
    "snr": {**STAGES, "edges": "snr"},
    "given": {**STAGES, "edges": (631.0, 442.0)},
    "separate": {**STAGES, "edges": (631.0, 442.0), "shared_encoder": False},
}
NOISE = Noise(kind="linear", timesteps=1000)
CLUSTERING = TimestepClustering(
    seed=0,
    draws=100,
    nodes=21,
    node_draws=4,
    data_range="centred",
    images=None,
    etas=(0.1,),
    alphas=(0.8,),
    gradient_nodes=5,
    gradient_images=2,
)
TRAINING = Training(
    batch_images=4,
    learning_rate=1e-3,
    warmup_steps=2,
    weight_decay=0.0,
    adam_betas=(0.9, 0.999),
    clip_norm=1.0,
    ema_decay=0.9,
    predicts="noise",
    min_snr_gamma=None,
    label_dropout=None,
    flip=False,
    stored_as="float32",
    checkpoint_every_steps=100,
    observe_every_steps=100,
)


def settings(**changes) -> Multistage:
    options = {
        "encoder_width": 8,
        "multipliers": (1, 2),
        "blocks": 1,
        "attention_sides": (),
        "networks": NETWORKS,
        "eta": 0.5,
        "alpha": 0.85,
        "steps": 4000,
        "checkpoints": (0.25,),
        "timesteps": "uniform",
        "seeds": (0,),
        "solver": "ddim",
        "sampling_steps": (5,),
    }
    return Multistage.model_validate({**options, **changes})


@pytest.fixture(scope="module")
def train() -> ImagePack:
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImagePack(images, torch.zeros(12, dtype=torch.int64), "made up", "train", "none")


@pytest.fixture
def differences(train) -> DenoiserDifferences:
    """Of draws that are like data below 400, like noise from 700 on, and like neither between."""
    timesteps = np.arange(0, 1000, 10)
    unlike_data, unlike_noise = (np.where(far, 1.0, 0.0) for far in (timesteps >= 400, timesteps < 700))
    columns = [np.repeat(unlike[:, None], 4, axis=1).astype(np.float32) for unlike in (unlike_data, unlike_noise)]
    return DenoiserDifferences(timesteps, *columns, NOISE.schedule(), "centred", train.sha256, len(train))


def test_edges_come_by_every_name(differences, train):
    found = multistage.choose_edges(differences, settings(), CLUSTERING, train, NOISE)
    t1, t2 = 400 / 0.85, 1000 - 300 / 0.85  # prefix and suffix means fall to alpha there
    assert found.pop("optimal") == pytest.approx([t2, t1], abs=10)
    assert found == {
        "unified": [],
        "uniform": list(uniform_timestep_edges(NOISE.schedule(), 3)),
        "snr": list(log_snr_cluster_edges(NOISE.schedule(), 3)),
        "given": [631.0, 442.0],
        "separate": [631.0, 442.0],
    }


def test_edges_that_do_not_exist_and_draws_of_other_images_are_refused(differences, train):
    with pytest.raises(InputError, match=r"networks.optimal.edges: .* leave no middle stage .* choose another eta"):
        multistage.choose_edges(differences, settings(alpha=0.4), CLUSTERING, train, NOISE)
    other = ImagePack(train.images + 1, train.labels, "made up", "train", "none")
    with pytest.raises(InputError, match="run the pipeline optimal_denoiser again"):
        multistage.choose_edges(differences, settings(), CLUSTERING, other, NOISE)
    of_pixels = CLUSTERING.model_copy(update={"data_range": "unit"})
    with pytest.raises(InputError, match="data range: run the pipeline optimal_denoiser again"):
        multistage.choose_edges(differences, settings(), of_pixels, train, NOISE)


@pytest.fixture
def asked(train, monkeypatch, tmp_path):
    """What a training would be, without it."""

    def ask(name, **changes):
        def caught(name, module, header, train, batches, *rest, keep_at_steps, **more):
            cost.update(header=header, kept=keep_at_steps, gmacs=header.step * 4 * header.step_macs / 1e9)
            cost["batches"], cost["module"] = batches, module
            return [None] * (len(keep_at_steps) + 1), {}, {}

        cost = {}
        monkeypatch.setattr(multistage, "train_and_keep", caught)
        edges = {"unified": [], "uniform": [667.0, 333.0], "separate": [667.0, 333.0], "given": [631.0, 442.0]}
        hardware = HardwareSettings(accelerator="cpu", devices=1, precision="32-true", threads=1)
        made = multistage.train_stages(
            edges, train, settings(**changes), TRAINING, NOISE, hardware, tmp_path, name=name, seed=0
        )
        return {**cost, "curve": made[-2]}

    return ask


def test_every_network_is_trained_for_the_cost_of_the_first(asked):
    unified = asked("unified")
    assert unified["header"].step == 4000
    for name in ("given", "uniform", "separate"):
        own = asked(name)
        assert own["gmacs"] == pytest.approx(unified["gmacs"], rel=0.02)  # stages are drawn
        macs = [stage.macs for stage in own["module"].raw.stages]
        spent = sum(3 * macs[own["batches"].stage(step)] for step in range(own["header"].step)) * 4 / 1e9
        assert own["gmacs"] == pytest.approx(spent)
        first, last = own["curve"]["checkpoints"]
        assert own["kept"] == [first["step"]] == [round(own["header"].step / 4)]
        assert last == {"step": own["header"].step, "training_gmacs": pytest.approx(spent)}
        assert own["header"].stage_edges == tuple(own["module"].schedule.edges)


def test_separate_networks_cost_what_the_shared_ones_do(asked):
    assert asked("separate")["header"].step == asked("uniform")["header"].step


def test_stages_that_come_up_alike_cost_otherwise(asked):
    shared = asked("given", timesteps="stages")
    assert shared["batches"].shares.tolist() == pytest.approx([1 / 3] * 3)
    assert shared["header"].step != asked("given")["header"].step


def test_checkpoints_of_too_few_steps_are_refused(asked):
    with pytest.raises(InputError, match=r"multistage.checkpoints: given has only \d+ steps, too few"):
        asked("given", steps=2, checkpoints=(0.1, 0.2))


def test_the_figure_of_edges_has_those_of_the_networks_and_marks_what_gave_them(differences):
    edges = {"unified": [], "optimal": [640.0, 470.0], "given": [631.0, 442.0]}
    found = edge_candidates(edges, differences, settings(), NOISE.schedule())
    assert [(one["label"], one["edges"]) for one in found[:2]] == [
        ("optimal", [640.0, 470.0]),
        ("given", [631.0, 442.0]),
    ]
    similar = similarity_edges(differences, settings().eta, settings().alpha).edges
    ends = [(one["end"], *one["edges"], one["alpha"]) for one in found if "end" in one]
    assert ends == [(end, edge, settings().alpha) for end, edge in zip(("noise", "data"), similar, strict=True)]
    assert {"uniform_timestep", "uniform_log_snr", "log_snr_clusters", "papers"} <= {one["method"] for one in found}
    curves = similarity_curves(differences, settings().eta).assign(eta=settings().eta)
    svg = edges_figure(found, curves, [], NOISE.schedule())
    without = edges_figure([one for one in found if "end" not in one], curves, [], NOISE.schedule())
    assert svg.count("<use") > without.count("<use") + len(ends)  # a row each, and a mark on a curve
