from collections.abc import Sequence
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from .nodes import curve_names, measure_curves


def create_pipeline(shallow: str, deep: str, middle: str | None, first_stage: Sequence[str]) -> Pipeline:
    """Backbones, extractor and reference to the FID of every switch and of its controls, block by block.

    first_stage: backbones that were trained for the first stage alone.
    """
    names = curve_names(shallow, deep, middle, first_stage)
    settings = {name: f"params:{name}" for name in ("evaluation", "noise", "sampling", "hardware")}
    same_name = ("extractor", "reference", "work_folder")
    return Pipeline(
        [
            Node(
                update_wrapper(partial(measure_curves, backbones=names), measure_curves),
                {
                    "settings": "params:switch_curves",
                    **settings,
                    **{name: name for name in same_name},
                    "held_out": "held_out_images",
                    **{name: f"{stored}.network" for name, stored in names.items()},
                },
                "switch_curves",
            )
        ]
    )
