from collections.abc import Mapping, Sequence

from kedro.pipeline import Node, Pipeline

from .nodes import measure_plans, plan_evaluation, summarise_timings, time_batches
from .records import make_records


def create_pipeline(
    backbones: Sequence[str],
    ase: bool = False,
    decoders: Mapping[str, str] | None = None,
    examples: str = "held_out_images",
) -> Pipeline:
    """Chosen schedules and all networks, ASE's where there is one, to records, blocks, timings and sample grids.

    decoders: multistage networks, namespaces by name; examples: such as networks learn from, held out.
    """
    trained = {name: name for name in (*backbones, "early_exits", *(["ase"] if ase else []))} | dict(decoders or {})
    networks = {f"network_{name}": f"{namespace}.network" for name, namespace in trained.items()}
    curves = {f"curve_{name}": f"{namespace}.training_curve" for name, namespace in trained.items()}
    seconds = {f"seconds_{name}": f"{namespace}.training_seconds" for name, namespace in trained.items()}
    settings = {"settings": "params:evaluation", "early_exit": "params:early_exit", "noise": "params:noise"}
    settings |= {"sampling": "params:sampling"}
    against = {"extractor": "extractor", "reference": "reference"}
    against |= {"train": "train_images", "held_out": "held_out_images"}
    return Pipeline(
        [
            Node(
                plan_evaluation,
                {
                    "chosen": "chosen_schedules",
                    "search": "params:switch_search",
                    **settings,
                    **networks,
                    **curves,
                    **({"ase": "params:ase"} if ase else {}),
                },
                "evaluated_plans",
            ),
            Node(
                measure_plans,
                {
                    "evaluated": "evaluated_plans",
                    "hardware": "params:hardware",
                    "work_folder": "work_folder",
                    "examples": examples,
                    **settings,
                    **against,
                    **networks,
                },
                ["seed_blocks", "block_seconds", "sample_grids"],
            ),
            Node(
                make_records,
                {
                    "evaluated": "evaluated_plans",
                    "blocks": "seed_blocks",
                    "settings": "params:evaluation",
                    "sampling": "params:sampling",
                    **against,
                },
                "records",
            ),
            Node(
                time_batches,
                {
                    "evaluated": "evaluated_plans",
                    "hardware": "params:hardware",
                    "examples": examples,
                    "work_folder": "work_folder",
                    **settings,
                    **networks,
                },
                "batch_seconds",
            ),
            Node(
                summarise_timings,
                {
                    "evaluated": "evaluated_plans",
                    "seconds": "block_seconds",
                    "batches": "batch_seconds",
                    **seconds,
                },
                "timings",
            ),
        ]
    )
