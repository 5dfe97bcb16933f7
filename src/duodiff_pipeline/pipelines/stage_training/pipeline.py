from collections.abc import Mapping
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from .ase import train_ase
from .nodes import train_for_stage


def create_pipeline(teachers: Mapping[str, str | None], ase: str | None = None) -> Pipeline:
    """One training, instantiated in a namespace a backbone, and that of ASE.

    teachers: by backbone, who teaches it; ase: the backbone that is fine-tuned for an exit schedule, if one is.
    """
    fine_tuned = _fine_tune(ase) if ase else Pipeline([])
    return sum((_train(name, teacher) for name, teacher in teachers.items()), fine_tuned)


def _fine_tune(backbone: str) -> Pipeline:
    settings = ["params:ase", "params:training", "params:hardware"]
    network = f"{backbone}.network"
    return Pipeline(
        [
            Node(
                train_ase,
                [network, "exit_table", "train_images", *settings, "params:seed", "work_folder"],
                ["ase.network", "ase.training_curve", "ase.training_seconds"],
            ),
        ]
    )


def _train(name: str, teacher: str | None) -> Pipeline:
    settings = ("training", "noise", "hardware", "seed")
    taught = {"teacher": f"{teacher}.network"} if teacher else {}
    node = Node(
        update_wrapper(partial(train_for_stage, name=name), train_for_stage),
        {
            "backbone": "params:backbone",
            "train": "train_images",
            "suggested": "loss_gap_switches",
            "work_folder": "work_folder",
            **{key: f"params:{key}" for key in settings},
            **taught,
        },
        ["network", "training_curve", "training_seconds"],
        name="train",
    )
    return Pipeline(
        [node],
        namespace=name,
        inputs={"train_images", "loss_gap_switches", "work_folder", *taught.values()},
        parameters={
            "params:backbone": f"params:backbones.{name}",
            **{f"params:{key}": f"params:{key}" for key in settings},
        },
    )
