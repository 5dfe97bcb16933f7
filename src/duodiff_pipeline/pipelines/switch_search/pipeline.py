from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from .nodes import choose_schedules, propose_exit_schedules, search_switch


def create_pipeline(backbones: Sequence[str], ase: bool = False) -> Pipeline:
    """Backbones and candidate edges to trials and chosen schedules; ase: whether there are exit schedules to try."""
    settings = {name: f"params:{name}" for name in ("noise", "sampling", "hardware")}
    same_name = ("candidate_edges", "extractor", "reference", "work_folder")
    exits = {"exit_candidates": "exit_candidates", "network_ase": "ase.network"} if ase else {}
    propose = Node(propose_exit_schedules, ["exit_errors", "params:ase", "params:noise"], "exit_candidates")
    return Pipeline(
        [
            *([propose] if ase else []),
            Node(
                search_switch,
                {
                    **{name: name for name in same_name},
                    "train": "train_images",
                    "settings": "params:switch_search",
                    **settings,
                    **{f"network_{name}": f"{name}.network" for name in backbones},
                    **exits,
                },
                "trials",
            ),
            Node(choose_schedules, ["trials", "params:evaluation.schedules"], "chosen_schedules"),
        ]
    )
