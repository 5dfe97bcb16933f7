from collections.abc import Sequence
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from .nodes import measure_stages, report_stages
from .search import search_edges
from .training import choose_edges, train_stages


def create_training(names: Sequence[str], seeds: Sequence[int], checkpoints: int, searched: bool = False) -> Pipeline:
    """Training images and their optimal denoisers to networks of every name and seed.

    checkpoints: networks kept of each training beside the final one; searched: whether edges of one are searched.
    """
    settings = {"settings": "params:multistage", "noise": "params:noise"}
    choose = {
        "differences": "denoiser_differences",
        "clustering": "params:timestep_clustering",
        "train": "train_images",
        **settings,
    }
    trainings = [_train(name, seed, checkpoints) for name in names for seed in seeds]
    if not searched:
        return Pipeline([Node(choose_edges, choose, "multistage_edges"), *trainings])
    same_name = ("evaluation", "training", "sampling", "hardware")
    search = {
        **choose,
        "edges": "given_edges",
        "held_out": "held_out_images",
        "extractor": "extractor",
        "reference": "reference",
        "work_folder": "work_folder",
        **{name: f"params:{name}" for name in same_name},
    }
    nodes = [Node(choose_edges, choose, "given_edges"), Node(search_edges, search, ["multistage_edges", "edge_trials"])]
    return Pipeline([*nodes, *trainings])


def create_pipeline(names: Sequence[str], seeds: Sequence[int], checkpoints: int, searched: bool = False) -> Pipeline:
    """These networks to their FIDs and the page; the summary is what the command line shows."""
    settings = {"settings": "params:multistage", "noise": "params:noise"}
    trainings = [(name, seed) for name in names for seed in seeds]
    stored = {f"curve_{name}_{seed}": f"{name}_{seed}.training_curve" for name, seed in trainings}
    for name, seed in trainings:
        kept = _networks(name, seed, checkpoints)
        stored |= {f"network_{name}_{seed}_{i}": network for i, network in enumerate(kept)}
    shared = {"sampling": "params:sampling", "hardware": "params:hardware", "work_folder": "work_folder"}
    evaluation = {"evaluation": "params:evaluation", "held_out": "held_out_images"}
    return Pipeline(
        [
            Node(
                measure_stages,
                {
                    "edges": "multistage_edges",
                    "extractor": "extractor",
                    "reference": "reference",
                    **settings,
                    **evaluation,
                    **shared,
                    **stored,
                },
                "multistage_blocks",
            ),
            Node(
                report_stages,
                {
                    "blocks": "multistage_blocks",
                    "edges": "multistage_edges",
                    "differences": "denoiser_differences",
                    "floor": "floor",
                    **settings,
                    **evaluation,
                    **({"edge_trials": "edge_trials"} if searched else {}),
                },
                ["multistage_page", "multistage_findings", "multistage_summary"],
            ),
        ]
    )


def _networks(name: str, seed: int, checkpoints: int) -> list[str]:
    """Of one training, in the order they were kept, the final one last."""
    kept = [f"{name}_{seed}.checkpoint_{i}.network" for i in range(checkpoints)]
    return [*kept, f"{name}_{seed}.network"]


def _train(name: str, seed: int, checkpoints: int) -> Node:
    made = [f"{name}_{seed}.training_curve", f"{name}_{seed}.training_seconds"]
    same_name = ("training", "noise", "hardware")
    return Node(
        update_wrapper(partial(train_stages, name=name, seed=seed), train_stages),
        {
            "edges": "multistage_edges",
            "train": "train_images",
            "settings": "params:multistage",
            "work_folder": "work_folder",
            **{key: f"params:{key}" for key in same_name},
        },
        [*_networks(name, seed, checkpoints), *made],
        name="train",
        namespace=f"{name}_{seed}",
    )
