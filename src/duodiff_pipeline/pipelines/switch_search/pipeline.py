from collections.abc import Mapping, Sequence

from kedro.pipeline import Node, Pipeline

from .nodes import choose_schedules, measure_exit_errors, propose_exit_schedules, search_switch


def create_pipeline(
    backbones: Sequence[str], ase: str | None = None, decoders: Mapping[str, str] | None = None
) -> Pipeline:
    """Backbones and candidate edges to trials and chosen schedules.

    ase: who was fine-tuned for an exit schedule; decoders: multistage networks, namespaces by name.
    """
    settings = {name: f"params:{name}" for name in ("noise", "sampling", "hardware")}
    same_name = ("candidate_edges", "loss_gap_switches", "extractor", "reference", "work_folder")
    exits = {"exit_candidates": "exit_candidates", "network_ase": "ase.network"} if ase else {}
    propose = [
        Node(
            measure_exit_errors,
            [f"{ase}.network", "ase.network", "held_out_images", "params:loss_gap", "params:hardware"],
            "exit_errors",
        ),
        Node(propose_exit_schedules, ["exit_errors", "ase.network", "params:ase", "params:noise"], "exit_candidates"),
    ]
    return Pipeline(
        [
            *(propose if ase else []),
            Node(
                search_switch,
                {
                    **{name: name for name in same_name},
                    "held_out": "held_out_images",
                    "settings": "params:switch_search",
                    **settings,
                    **{f"network_{name}": f"{name}.network" for name in backbones},
                    **exits,
                    **{f"network_{name}": f"{namespace}.network" for name, namespace in (decoders or {}).items()},
                },
                "trials",
            ),
            Node(choose_schedules, ["trials", "params:evaluation.schedules"], "chosen_schedules"),
        ]
    )
