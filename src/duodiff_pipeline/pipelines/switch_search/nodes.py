"""The search over who serves, switches, edges, solver and steps. Nothing is trained in a trial."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ... import tracking
from ...analysis.exit_errors import exit_errors
from ...config import Ase, HardwareSettings, LossGap, Noise, Sampling, SwitchSearch
from ...diffusion.noise import NoiseSchedule
from ...diffusion.stages import StageSchedule
from ...diffusion.starts import SharedStarts
from ...images.pack import ImagePack
from ...images.pixels import from_uint8
from ...metrics.extractor import FeatureExtractor
from ...metrics.reference import ReferenceStatistics
from ...networks.exit_schedule import ExitSchedule
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...networks.transformer import TransformerBackbone
from ...workdir import WorkDir
from ..measuring import STARTS_BYTES, make_meter, sampling_device

CODE = ["config/search.py", "diffusion", "metrics", "networks", "search", "pipelines/switch_search"]
ASE = "ase"


def measure_exit_errors(
    backbone: StoredNetwork, ase: StoredNetwork, held_out: ImagePack, settings: LossGap, hardware: HardwareSettings
) -> pd.DataFrame:
    """What a backbone and its fine-tuned copy err on held-out images at every exit depth; see `exit_errors`."""
    device = sampling_device(hardware, backbone, ase)
    x0 = from_uint8(held_out.images[: settings.images]).to(device)
    before, after = backbone.module, ase.module
    assert isinstance(before, TransformerBackbone)
    assert isinstance(after, TransformerBackbone)
    labels = held_out.labels[: settings.images].to(device) if before.classes else None
    return exit_errors(before, after, x0, settings.seed, labels)


def propose_exit_schedules(errors: pd.DataFrame, settings: Ase, noise: Noise) -> pd.DataFrame:
    """Exit schedules with what they are predicted to err, and which of them the search takes."""
    from ...search.exit_candidates import exit_candidates

    return exit_candidates(errors, noise.schedule(), settings.candidates)


def search_switch(
    candidate_edges: list[dict[str, Any]],
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    held_out: ImagePack,
    settings: SwitchSearch,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
    exit_candidates: pd.DataFrame | None = None,
    **stored: StoredNetwork,
) -> pd.DataFrame:
    """All trials of one study, with the front marked.

    exit_candidates: of `propose_exit_schedules`; stored: `network_<name>` of the backbones that are searched over, and
    that of ASE where there are candidates.
    """
    from optuna.trial import Trial

    from ...search.space import Candidate, SearchSpace
    from ...search.study import run_study
    from ...search.trials import trials_table

    schedule = noise.schedule()
    networks = {name.removeprefix("network_"): network for name, network in stored.items()}
    bank = NetworkBank(networks, guidance=sampling.guidance_by(networks))
    candidates = [Candidate(found["label"], found["method"], tuple(found["edges"])) for found in candidate_edges]
    lowest = {name: low for name, network in networks.items() if (low := network.header.timestep_range[0])}
    serve = settings.backbones
    exits = [] if exit_candidates is None else _taken(exit_candidates, schedule)
    space = SearchSpace(settings.solvers, settings.steps, serve, candidates, schedule, settings.history, lowest, exits)
    device = sampling_device(hardware, *networks.values())
    meter = make_meter(extractor, reference, held_out, settings.images, noise, sampling, device)
    parameters = {
        **settings.model_dump(mode="json", exclude={"n_trials"}),  # so that a study can be extended
        "images": meter.n_images,
        "noise": noise.model_dump(),
        "sampling": sampling.model_dump(),
        "hardware": hardware.model_dump(),
        "candidates": [asdict(candidate) for candidate in candidates],
        "exit_schedules": [exit_schedule.to_dict() for exit_schedule in exits],
    }
    inputs = {**{name: network.sha256 for name, network in networks.items()}, "reference": reference.sha256}
    work = WorkDir(work_folder, "switch_search", parameters, inputs, CODE)

    starts = SharedStarts(STARTS_BYTES)

    def measure(plan: SamplingPlan) -> dict[str, float]:
        measured = meter.measure(bank.denoiser(plan), plan.solver, settings.seed, starts.of(bank.served_by(plan)))
        return {"fid": measured.fid, "gmacs": measured.trace.gmacs_per_image}

    def evaluate(trial: Trial) -> tuple[float, float]:
        plan = space.suggest(trial).plan
        # two proposals that come to the same networks at the same timesteps are one
        name = f"{plan.solver.label}_{plan.solver.steps}_{plan.runs}".replace("/", "-")
        values = work.remember(name, lambda: measure(plan))
        return values["fid"], values["gmacs"]

    trials = run_study(work.folder, settings.n_trials, settings.seed, space.anchors(), evaluate)
    table = trials_table(trials, space)
    for row in table[table["on_front"]].drop_duplicates("plan").to_dict("records"):
        with tracking.current().child(f"trial {row['trial']}: {row['plan']}") as child:
            child.log_params(
                {key: row[key] for key in ("plan", "solver", "steps", "history", "edges_by", "k", "edges")}
            )
            child.log_metrics({"fid": row["fid"], "gmacs": row["gmacs"]})
    return table


def _taken(exit_candidates: pd.DataFrame, noise: NoiseSchedule) -> list[StageSchedule]:
    depths = exit_candidates.loc[exit_candidates["taken"], "depths"]
    return [ExitSchedule(tuple(map(int, each)), noise).stages(ASE) for each in depths]


def choose_schedules(trials: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Trials to evaluate: up to `count` of the front with two networks or more, and the best exit schedule, if any.

    Those of the front are spread from the lowest FID to the lowest cost.
    """
    from ...search.trials import best_exit_schedule, spread

    return [
        {
            "trial": int(row["trial"]),
            "edges_by": row["edges_by"],
            "solver": row["solver"],
            "steps": int(row["steps"]),
            "history": row["history"],
            "edges": [float(edge) for edge in row["edges"]],
            "serves": list(row["serves"]),
            "fid": float(row["fid"]),
            "gmacs": float(row["gmacs"]),
            "on_front": bool(row["on_front"]),
        }
        for row in [*spread(trials, count), *best_exit_schedule(trials)]
    ]
