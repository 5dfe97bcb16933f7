from collections.abc import Mapping
from functools import partial, update_wrapper
from typing import Any

from kedro.pipeline import Node, Pipeline

from .ase import fine_tune
from .nodes import train_for_stage


def create_pipeline(stages: Mapping[str, Mapping[str, Any]], ase: Mapping[str, Any] | None = None) -> Pipeline:
    """One training, instantiated in a namespace a backbone, and the fine-tuning of ASE where there is one.

    stages: by backbone, as the parameters have them; ase: as they have it.
    """
    fine_tuned = Pipeline([_ase(ase)] if ase else [])
    return sum((_train(name, stage) for name, stage in stages.items()), fine_tuned)


def _ase(ase: Mapping[str, Any]) -> Node:
    settings = ("training", "hardware", "seed")
    return Node(
        fine_tune,
        {
            "network": f"{ase['backbone']}.network",
            "train": "train_images",
            "settings": "params:ase",
            "work_folder": "work_folder",
            **{key: f"params:{key}" for key in settings},
            **({"exit_table": "exit_table"} if ase["schedule"] == "exit_statistics" else {}),
        },
        ["ase.network", "ase.training_curve", "ase.training_seconds"],
        name="train",
        namespace="ase",
    )


def _train(name: str, stage: Mapping[str, Any]) -> Pipeline:
    settings = ("training", "noise", "hardware", "seed")
    more = {} if stage["teacher"] is None else {"teacher": f"{stage['teacher']}.network"}
    more |= {"suggested": "loss_gap_switches"} if stage["edge"] is None else {}
    node = Node(
        update_wrapper(partial(train_for_stage, name=name), train_for_stage),
        {
            "backbone": "params:backbone",
            "train": "train_images",
            "work_folder": "work_folder",
            **{key: f"params:{key}" for key in settings},
            **more,
        },
        ["network", "training_curve", "training_seconds"],
        name="train",
    )
    return Pipeline(
        [node],
        namespace=name,
        inputs={"train_images", "work_folder", *more.values()},
        parameters={
            "params:backbone": f"params:backbones.{name}",
            **{f"params:{key}": f"params:{key}" for key in settings},
        },
    )
