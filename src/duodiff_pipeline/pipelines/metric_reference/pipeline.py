from kedro.pipeline import Node, Pipeline

from .nodes import make_extractor, measure_floor, reference_statistics


def create_pipeline() -> Pipeline:
    """Packs to extractor, reference statistics and floor."""
    packs = {"train": "train_images", "held_out": "held_out_images"}
    settings = {"settings": "params:metric_reference", "hardware": "params:hardware"}
    return Pipeline(
        [
            Node(
                make_extractor,
                {**packs, **settings, "work_folder": "work_folder"},
                ["extractor", "extractor_accuracy"],
            ),
            Node(reference_statistics, {"extractor": "extractor", **packs, **settings}, "reference"),
            Node(
                measure_floor,
                {
                    "extractor": "extractor",
                    "reference": "reference",
                    "images": "params:evaluation.images",
                    "more_metrics": "params:evaluation.more_metrics",
                    **packs,
                    **settings,
                },
                "floor",
            ),
        ]
    )
