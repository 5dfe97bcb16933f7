from kedro.pipeline import Node, Pipeline

from .nodes import measure_floor, reference_statistics, train_extractor


def create_pipeline() -> Pipeline:
    """Packs to extractor, reference statistics and floor."""
    return Pipeline(
        [
            Node(
                train_extractor,
                ["train_images", "held_out_images", "params:metric_reference", "params:hardware", "work_folder"],
                ["extractor", "extractor_accuracy"],
            ),
            Node(reference_statistics, ["extractor", "held_out_images"], "reference"),
            Node(
                measure_floor,
                [
                    "extractor",
                    "train_images",
                    "held_out_images",
                    "reference",
                    "params:metric_reference",
                    "params:evaluation.images",
                ],
                "floor",
            ),
        ]
    )
