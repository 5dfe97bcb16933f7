"""Parameters of an environment with changes, and what is planned of them; no command line."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

from duodiff_pipeline.config import Parameters, validate
from duodiff_pipeline.planning.images import KnownImages, known_images
from duodiff_pipeline.planning.networks import Networks, planned_networks
from duodiff_pipeline.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[2] / "conf"


def nothing(name: str) -> None:
    """What is found where nothing was run."""


def parameters(env: str, **changes: dict[str, Any]) -> Parameters:
    """changes: by section, key by key."""
    loader = OmegaConfigLoader(str(CONF), env=env, **CONFIG_LOADER_ARGS)
    raw = loader["parameters"]
    return validate({**raw, **{section: {**raw[section], **keys} for section, keys in changes.items()}})


def planned(p: Parameters, work_folder: Path) -> tuple[KnownImages, Networks]:
    images = known_images(p.data_preparation, work_folder, nothing)
    assert images is not None
    return images, planned_networks(p, images, work_folder, nothing)
