from kedro.pipeline import Node, Pipeline

from .nodes import measure_curves


def create_pipeline(shallow: str, deep: str, middle: str | None) -> Pipeline:
    """Backbones, extractor and reference to the FID of every switch and of its controls, block by block."""
    names = {"shallow": shallow, "deep": deep, **({"middle": middle} if middle else {})}
    settings = {name: f"params:{name}" for name in ("evaluation", "noise", "sampling", "hardware")}
    same_name = ("extractor", "reference", "work_folder")
    return Pipeline(
        [
            Node(
                measure_curves,
                {
                    "settings": "params:switch_curves",
                    **settings,
                    **{name: name for name in same_name},
                    "train": "train_images",
                    **{name: f"{stored}.network" for name, stored in names.items()},
                },
                "switch_curves",
            )
        ]
    )
