"""The Fashion-MNIST networks in the repository: small, made with their parameters, and named in the page."""

from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from duodiff_pipeline.config import Parameters, validate
from duodiff_pipeline.networks.files import StoredNetwork

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "data" / "06_models" / "fashion_mnist"
NAMES = ["deep", "middle", "shallow", "early_exits"]
LARGEST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def parameters() -> Parameters:
    conf = OmegaConfigLoader(
        str(ROOT / "conf"), "fashion_mnist", base_env="base", merge_strategy={"parameters": "soft"}
    )
    return validate(conf["parameters"])


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
