from collections.abc import Mapping
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from .nodes import train_for_stage


def create_pipeline(teachers: Mapping[str, str | None]) -> Pipeline:
    """One training, instantiated in a namespace a backbone; teachers: by backbone, who teaches it."""
    return sum((_train(name, teacher) for name, teacher in teachers.items()), Pipeline([]))


def _train(name: str, teacher: str | None) -> Pipeline:
    settings = ("training", "noise", "hardware", "seed")
    taught = {"teacher": f"{teacher}.network"} if teacher else {}
    node = Node(
        update_wrapper(partial(train_for_stage, name=name), train_for_stage),
        {
            "backbone": "params:backbone",
            "train": "train_images",
            "suggested": "loss_gap_switches",
            "work_folder": "work_folder",
            **{key: f"params:{key}" for key in settings},
            **taught,
        },
        ["network", "training_curve", "training_seconds"],
        name="train",
    )
    return Pipeline(
        [node],
        namespace=name,
        inputs={"train_images", "loss_gap_switches", "work_folder", *taught.values()},
        parameters={
            "params:backbone": f"params:backbones.{name}",
            **{f"params:{key}": f"params:{key}" for key in settings},
        },
    )
