from kedro.pipeline import Node, Pipeline

from .nodes import choose_schedules, search_switch


def create_pipeline(first: str, last: str) -> Pipeline:
    """Two backbones and candidate edges to trials and chosen schedules."""
    settings = ["params:switch_search", "params:noise", "params:sampling", "params:hardware"]
    networks = [f"{first}.network", f"{last}.network"]
    return Pipeline(
        [
            Node(
                search_switch,
                [*networks, "candidate_edges", "extractor", "reference", "train_images", *settings, "work_folder"],
                "trials",
            ),
            Node(choose_schedules, ["trials", "params:evaluation.schedules"], "chosen_schedules"),
        ]
    )
