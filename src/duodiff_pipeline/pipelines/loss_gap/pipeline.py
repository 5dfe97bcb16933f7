from kedro.pipeline import Node, Pipeline

from .nodes import measure_loss_gap


def create_pipeline(shallow: str, deep: str) -> Pipeline:
    """Two backbones and held-out images to the excess error of every switch, and the switches it suggests."""
    settings = {"settings": "params:loss_gap", "curves": "params:switch_curves", "noise": "params:noise"}
    networks = {"shallow": f"{shallow}.network", "deep": f"{deep}.network"}
    return Pipeline(
        [
            Node(
                measure_loss_gap,
                {**networks, **settings, "held_out": "held_out_images", "hardware": "params:hardware"},
                ["loss_gap", "loss_gap_switches"],
            )
        ]
    )
