from collections.abc import Sequence
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from .nodes import take_backbone, take_checkpoint, train_backbone

MADE = ["network", "training_curve", "training_seconds"]


def create_pipeline(backbones: Sequence[str], taken: Sequence[str] = (), imported: Sequence[str] = ()) -> Pipeline:
    """One training, instantiated in a namespace a backbone.

    taken: those whose networks come from files; imported: from foreign checkpoints.
    """
    made = [*map(_train, backbones), *map(_take, taken), *map(_import, imported)]
    return sum(made, Pipeline([]))


def _take(name: str) -> Pipeline:
    take = update_wrapper(partial(take_backbone, name=name), take_backbone)
    return Pipeline(
        [Node(take, ["params:backbone", "train_images"], MADE, name="take")],
        namespace=name,
        inputs={"train_images"},
        parameters={"params:backbone": f"params:backbones.{name}"},
    )


def _import(name: str) -> Pipeline:
    take = update_wrapper(partial(take_checkpoint, name=name), take_checkpoint)
    return Pipeline(
        [Node(take, ["params:backbone", "train_images", "params:noise"], MADE, name="take")],
        namespace=name,
        inputs={"train_images"},
        parameters={"params:backbone": f"params:backbones.{name}", "params:noise": "params:noise"},
    )


def _train(name: str) -> Pipeline:
    shared = ["params:training", "params:noise", "params:hardware", "params:seed"]
    node = Node(
        update_wrapper(partial(train_backbone, name=name), train_backbone),
        ["params:backbone", "train_images", *shared, "work_folder"],
        MADE,
        name="train",
    )
    return Pipeline(
        [node],
        namespace=name,
        inputs={"train_images", "work_folder"},
        parameters={"params:backbone": f"params:backbones.{name}", **{key: key for key in shared}},
    )
