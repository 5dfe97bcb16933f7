"""The Fashion-MNIST networks in the repository: small, made with their parameters, and named in the page."""

import json
from itertools import product
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from duodiff_pipeline.config import Parameters, validate
from duodiff_pipeline.networks.files import StoredNetwork

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "data" / "06_models"
FOLDER = MODELS / "fashion_mnist"
NAMES = ["deep", "middle", "shallow", "early_exits"]
STAGED = ["unified", "multistage", "multistage_uniform", "separate", "searched"]
LARGEST_BYTES = 5_000_000


def parameters_of(environment: str) -> Parameters:
    conf = OmegaConfigLoader(str(ROOT / "conf"), environment, base_env="base", merge_strategy={"parameters": "soft"})
    return validate(conf["parameters"])


@pytest.fixture(scope="module")
def parameters() -> Parameters:
    return parameters_of("fashion_mnist")


@pytest.fixture(scope="module")
def staged() -> Parameters:
    return parameters_of("fashion_multistage")


@pytest.mark.parametrize("name", NAMES)
def test_a_network_was_made_with_the_parameters_of_its_environment(name: str, parameters: Parameters) -> None:
    path = FOLDER / f"{name}.safetensors"
    assert path.stat().st_size <= LARGEST_BYTES
    header = StoredNetwork.load(path).header
    wanted = {**parameters.training.model_dump(mode="json"), "seed": parameters.seed}
    later = {"label_dropout": None, "rate_schedule": "cosine"}  # keys that came after the networks, as they were made
    assert {**later, **header.training, "hardware": None} == {**later, **header.training, "hardware": None, **wanted}
    trained = parameters.early_exit if name == "early_exits" else parameters.backbones[name]
    assert header.step == trained.steps


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_results_names_it_by_its_sha256(name: str) -> None:
    page = (ROOT / "docs" / "results" / "fashion_mnist.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| {name.replace('_', ' ')} |"))
    assert StoredNetwork.load(FOLDER / f"{name}.safetensors").sha256 in row


@pytest.mark.parametrize(("name", "seed"), product(STAGED, (0, 1)))
def test_a_network_of_the_multistage_comparison_was_made_with_its_parameters(
    name: str, seed: int, staged: Parameters
) -> None:
    assert staged.multistage is not None
    assert (list(staged.multistage.networks), staged.multistage.seeds) == (STAGED, (0, 1))
    folder = MODELS / "fashion_multistage"
    edges = json.loads((ROOT / "data/07_model_output/fashion_multistage/multistage_edges.json").read_text())
    curve = json.loads((folder / f"{name}_{seed}_training_curve.json").read_text())
    kept = [f"{name}_{seed}.checkpoint_{i}" for i in range(len(staged.multistage.checkpoints))]
    wanted = {**staged.training.model_dump(mode="json"), "timesteps": "uniform", "seed": seed, "hardware": None}
    for file, checkpoint in zip([*kept, f"{name}_{seed}"], curve["checkpoints"], strict=True):
        path = folder / f"{file}.safetensors"
        assert path.stat().st_size <= LARGEST_BYTES
        header = StoredNetwork.load(path).header
        assert header.training | {"hardware": None} == wanted
        assert list(header.stage_edges) == edges[name]
        assert header.step == checkpoint["step"]
    budget = json.loads((folder / f"unified_{seed}_training_curve.json").read_text())["checkpoints"][-1]
    assert curve["checkpoints"][-1]["training_gmacs"] == pytest.approx(budget["training_gmacs"], rel=0.01)
    if name == "unified":
        assert budget["step"] == staged.multistage.steps
