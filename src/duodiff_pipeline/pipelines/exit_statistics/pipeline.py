from kedro.pipeline import Node, Pipeline

from .nodes import collect_exits, find_change_points


def create_pipeline(backbone: str) -> Pipeline:
    """The deep network and its early exits to exit depths and change points."""
    settings = ["params:exit_statistics", "params:early_exit", "params:sampling", "params:hardware", "work_folder"]
    return Pipeline(
        [
            Node(
                collect_exits, [f"{backbone}.network", "early_exits.network", "train_images", *settings], "exit_table"
            ),
            Node(find_change_points, ["exit_table", "params:exit_statistics"], "change_points"),
        ]
    )
