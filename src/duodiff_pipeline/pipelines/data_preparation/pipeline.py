from kedro.pipeline import Node, Pipeline

from .nodes import prepare_images


def create_pipeline() -> Pipeline:
    """Source to image packs."""
    return Pipeline(
        [
            Node(
                prepare_images,
                ["params:data_preparation", "work_folder"],
                ["train_images", "held_out_images"],
            )
        ]
    )
