from kedro.pipeline import Node, Pipeline

from .nodes import train_early_exits


def create_pipeline(backbone: str) -> Pipeline:
    """The backbone to its early exits."""
    settings = ["params:early_exit", "params:training", "params:hardware", "params:seed"]
    return Pipeline(
        [
            Node(
                train_early_exits,
                [f"{backbone}.network", "train_images", *settings, "work_folder"],
                ["early_exits.network", "early_exits.training_curve", "early_exits.training_seconds"],
            )
        ]
    )
