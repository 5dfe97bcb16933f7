from collections.abc import Sequence
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from .nodes import take_backbone, train_backbone


def create_pipeline(backbones: Sequence[str], taken: Sequence[str] = ()) -> Pipeline:
    """One training, instantiated in a namespace a backbone; taken: those whose networks come from files."""
    return sum([*(_train(name) for name in backbones), *(_take(name) for name in taken)], Pipeline([]))


def _take(name: str) -> Pipeline:
    take = update_wrapper(partial(take_backbone, name=name), take_backbone)
    made = ["network", "training_curve", "training_seconds"]
    return Pipeline(
        [Node(take, ["params:backbone", "train_images"], made, name="take")],
        namespace=name,
        inputs={"train_images"},
        parameters={"params:backbone": f"params:backbones.{name}"},
    )


def _train(name: str) -> Pipeline:
    shared = ["params:training", "params:noise", "params:hardware", "params:seed"]
    node = Node(
        update_wrapper(partial(train_backbone, name=name), train_backbone),
        ["params:backbone", "train_images", *shared, "work_folder"],
        ["network", "training_curve", "training_seconds"],
        name="train",
    )
    return Pipeline(
        [node],
        namespace=name,
        inputs={"train_images", "work_folder"},
        parameters={"params:backbone": f"params:backbones.{name}", **{key: key for key in shared}},
    )
