"""The pipelines by name, in the order data flows; `__default__` is the whole experiment."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.pipeline import Pipeline

from .pipelines import (
    data_preparation,
    early_exit,
    evaluation,
    exit_statistics,
    loss_gap,
    metric_reference,
    multistage,
    optimal_denoiser,
    reporting,
    stage_training,
    switch_curves,
    switch_search,
    timestep_clustering,
    training,
)

# what stands for images where networks learn from latents
LATENTS = {"train_images": "train_latents", "held_out_images": "held_out_latents"}

CONF = Path(__file__).parents[2] / "conf"

# Which networks there are is configuration, so the pipelines depend on it. The hook that validates a run's parameters
# leaves them here before the pipelines are made; without a run (`kedro registry list`) the base configuration counts.
_parameters: Mapping[str, Any] | None = None


# Networks leave their namespaces on purpose: the search and the evaluation take them all.
warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")


def use_parameters(parameters: Mapping[str, Any]) -> None:
    """Make the pipelines that belong to these (validated) parameters."""
    global _parameters
    _parameters = parameters


def register_pipelines() -> dict[str, Pipeline]:
    parameters = _parameters or OmegaConfigLoader(str(CONF), base_env="base", default_run_env="base")["parameters"]
    backbones = parameters["backbones"]
    stages = {name: backbone["stage"] for name, backbone in backbones.items() if backbone.get("stage")}
    taken = [name for name, backbone in backbones.items() if backbone.get("file")]
    imported = [name for name, backbone in backbones.items() if backbone.get("from_checkpoint")]
    everywhere = [name for name in backbones if name not in stages]
    serve = parameters["switch_search"]["backbones"]
    ends = [name for name in serve if name not in stages]
    shallow, deep = ends[0], ends[-1]
    exits_of = parameters["early_exit"]["backbone"]
    ase = None if parameters["ase"] is None else parameters["ase"]["backbone"]
    decoders = _decoders(parameters["multistage"])
    latents = parameters["data_preparation"].get("autoencoder") is not None
    of_images = {
        "data_preparation": data_preparation.create_pipeline(latents),
        "metric_reference": metric_reference.create_pipeline(),
    }
    of_examples = {
        "training": training.create_pipeline(
            [name for name in everywhere if name not in (*taken, *imported)], taken, imported
        ),
        "early_exit": early_exit.create_pipeline(exits_of),
        "exit_statistics": exit_statistics.create_pipeline(exits_of),
        "optimal_denoiser": optimal_denoiser.create_pipeline(),
        "timestep_clustering": timestep_clustering.create_pipeline(deep),
        "loss_gap": loss_gap.create_pipeline(shallow, deep),
        "stage_training": stage_training.create_pipeline(
            {name: stage for name, stage in stages.items() if name not in taken}, parameters["ase"]
        ),
        **_multistage(parameters["multistage"]),
        "switch_search": switch_search.create_pipeline(serve, ase, decoders),
        "switch_curves": switch_curves.create_pipeline(shallow, deep, parameters["evaluation"]["middle"], list(stages)),
    }
    of_both = {
        "evaluation": evaluation.create_pipeline(
            list(backbones), ase is not None, decoders, LATENTS["held_out_images"] if latents else "held_out_images"
        ),
        "reporting": reporting.create_pipeline(
            list(backbones), ase is not None, parameters["multistage"] is not None, latents
        ),
    }
    if latents:
        of_examples = {name: _on_latents(pipeline) for name, pipeline in of_examples.items()}
    pipelines = {**of_images, **of_examples, **of_both}
    return {**pipelines, "__default__": sum(pipelines.values(), Pipeline([]))}


def _decoders(settings: Mapping[str, Any] | None) -> dict[str, str]:
    """Networks of several decoders, each by the namespace of its first training."""
    if settings is None:
        return {}
    several = [name for name, network in settings["networks"].items() if len(network["decoder_widths"]) > 1]
    return {name: f"{name}_{settings['seeds'][0]}" for name in several}


def _on_latents(pipeline: Pipeline) -> Pipeline:
    """The same, which takes latents where it would take images."""
    return Pipeline(pipeline, inputs={name: LATENTS[name] for name in LATENTS.keys() & pipeline.inputs()})


def _multistage(settings: Mapping[str, Any] | None) -> dict[str, Pipeline]:
    """The comparison of multistage networks, where the parameters ask for one."""
    if settings is None:
        return {"multistage_training": Pipeline([]), "multistage": Pipeline([])}
    searched = settings.get("search") is not None
    which = (list(settings["networks"]), settings["seeds"], len(settings["checkpoints"]), searched)
    return {
        "multistage_training": multistage.create_training(*which),
        "multistage": multistage.create_pipeline(*which),
    }
