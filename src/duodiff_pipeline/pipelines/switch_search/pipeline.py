from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from .nodes import choose_schedules, search_switch


def create_pipeline(backbones: Sequence[str]) -> Pipeline:
    """Backbones and candidate edges to trials and chosen schedules."""
    settings = {name: f"params:{name}" for name in ("noise", "sampling", "hardware")}
    same_name = ("candidate_edges", "loss_gap_switches", "extractor", "reference", "work_folder")
    return Pipeline(
        [
            Node(
                search_switch,
                {
                    **{name: name for name in same_name},
                    "held_out": "held_out_images",
                    "settings": "params:switch_search",
                    **settings,
                    **{f"network_{name}": f"{name}.network" for name in backbones},
                },
                "trials",
            ),
            Node(choose_schedules, ["trials", "params:evaluation.schedules"], "chosen_schedules"),
        ]
    )
