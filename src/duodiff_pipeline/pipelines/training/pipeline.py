from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from .nodes import train_backbone


def create_pipeline(backbones: list[str]) -> Pipeline:
    """One training, instantiated in a namespace a backbone."""
    return sum((_train(name) for name in backbones), Pipeline([]))


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
