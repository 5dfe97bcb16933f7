"""The Fashion-MNIST networks in the repository are small, and made with the parameters of their environment."""

from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from duodiff_pipeline.config import Parameters, validate
from duodiff_pipeline.networks.files import StoredNetwork

ROOT = Path(__file__).parents[1]
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
    path = ROOT / "data" / "06_models" / "fashion_mnist" / f"{name}.safetensors"
    assert path.stat().st_size <= LARGEST_BYTES
    header = StoredNetwork.load(path).header
    wanted = {**parameters.training.model_dump(mode="json"), "seed": parameters.seed}
    assert {key: header.training.get(key) for key in wanted} == wanted  # no label_dropout: unconditional
    trained = parameters.early_exit if name == "early_exits" else parameters.backbones[name]
    assert header.step == trained.steps
