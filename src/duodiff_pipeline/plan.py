"""`kedro plan`: what a run of an environment will come to."""

from pathlib import Path
from typing import Any

import torch
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog

from .config import validate, validate_globals
from .errors import InputError
from .pipeline_registry import register_pipelines, use_parameters
from .settings import CONFIG_LOADER_ARGS


def plan_run(project: Path, env: str, runtime_params: dict[str, Any]) -> str:
    """What is printed; nothing is written, and no run is tracked."""
    from .planning.plan import make_plan
    from .planning.text import plan_text

    loader = OmegaConfigLoader("conf", env=env, runtime_params=runtime_params, **CONFIG_LOADER_ARGS)  # type: ignore[arg-type]
    raw, catalog = loader["parameters"], DataCatalog.from_config(loader["catalog"])
    parameters = validate(raw)
    experiment = validate_globals(loader["globals"]).experiment
    if parameters.hardware.threads is not None:
        torch.set_num_threads(parameters.hardware.threads)
    use_parameters(raw)
    names = [name for name, pipeline in register_pipelines().items() if name != "__default__" and pipeline.nodes]

    def found(name: str) -> Any:
        dataset = catalog.get(name)
        try:
            return dataset.load() if dataset is not None and dataset.exists() else None
        except InputError:  # a run says that it is damaged
            return None

    return plan_text(make_plan(parameters, experiment, project, names, found), env)
