"""The commands that make the networks of a run again, each after what it learns from."""

from collections.abc import Collection, Mapping
from typing import Any

from ..config import Parameters
from ..networks.files import NetworkHeader, StoredNetwork
from .page import run_command
from .report_data import ReportData


def training_commands(report: ReportData, networks: Mapping[str, StoredNetwork], taken: Collection[str]) -> list[str]:
    """With the settings in the networks' headers; taken: those that come from a file."""
    parameters = report.parameters
    stages = {name: b.stage for name, b in parameters.backbones.items() if b.stage is not None}

    def run(*part: str, **settings: Any) -> str:
        return run_command(report.environment, {**report.runtime_params, **settings}, part)

    commands = [run("--pipelines", "data_preparation")]
    for name in sorted(networks, key=lambda name: name in stages):  # stages come after their teachers
        if name in taken:
            commands.append(run("--nodes", f"{name}.take"))
            continue
        if name in stages and stages[name].edge is None:
            commands.append(run("--pipelines", "loss_gap"))
        if name == "ase" and parameters.ase and parameters.ase.threshold is not None:
            commands.append(run("--pipelines", "exit_statistics"))
        section, part = {
            "early_exits": ("early_exit", ("--pipelines", "early_exit")),
            "ase": ("ase", ("--nodes", "ase.train")),
        }.get(name, (f"backbones.{name}", ("--nodes", f"{name}.train")))
        commands.append(run(*part, **_other_settings(section, networks[name].header, parameters)))
    return list(dict.fromkeys(commands))


def _other_settings(section: str, header: NetworkHeader, parameters: Parameters) -> dict[str, Any]:
    """Parameters by which a network was trained and that the run has otherwise; section: the network's own."""
    everything = parameters.model_dump(mode="json")
    own = everything["backbones"][section.removeprefix("backbones.")] if "." in section else everything[section]
    sections = {"hardware": everything["hardware"], "training": everything["training"], section: own}
    now = {f"{name}.{key}": value for name, settings in sections.items() for key, value in settings.items()}
    now["seed"] = parameters.seed
    trained = {key: value for key, value in header.training.items() if key not in ("seed", "hardware", "ase")}
    trained |= {**header.training.get("ase", {}), "steps": header.step}
    was = {f"{section if key in own else 'training'}.{key}": value for key, value in trained.items()}
    was |= {f"hardware.{key}": value for key, value in header.training["hardware"].items()}
    was["seed"] = header.training["seed"]
    return {key: value for key, value in was.items() if now[key] != value}
