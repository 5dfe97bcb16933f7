"""The search over switch, edges, solver and steps. Nothing is trained in a trial."""

from pathlib import Path
from typing import Any

import pandas as pd

from ... import tracking
from ...config import HardwareSettings, Noise, Sampling, SwitchSearch
from ...images.pack import ImagePack
from ...metrics.classifier import FeatureClassifier
from ...metrics.reference import ReferenceStatistics
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...workdir import WorkDir
from ..measuring import make_meter, sampling_device

CODE = ["diffusion", "metrics", "networks", "search", "pipelines/switch_search"]


def search_switch(
    first: StoredNetwork,
    last: StoredNetwork,
    candidate_edges: list[dict[str, Any]],
    extractor: FeatureClassifier,
    reference: ReferenceStatistics,
    train: ImagePack,
    settings: SwitchSearch,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
) -> pd.DataFrame:
    """All trials of one study, with the front marked."""
    from optuna.trial import Trial

    from ...search.space import SearchSpace
    from ...search.study import run_study
    from ...search.trials import trials_table

    schedule = noise.schedule()
    bank = NetworkBank({settings.first: first, settings.last: last})
    edges = {candidate["label"]: candidate["edge"] for candidate in candidate_edges}
    space = SearchSpace(settings.solvers, settings.steps, edges, settings.first, settings.last, schedule)
    meter = make_meter(
        extractor, reference, train, settings.images, noise, sampling, sampling_device(hardware, first, last)
    )
    parameters = {
        **settings.model_dump(mode="json", exclude={"n_trials"}),  # so that a study can be extended
        "noise": noise.model_dump(),
        "sampling": sampling.model_dump(),
        "hardware": hardware.model_dump(),
        "edges": edges,
    }
    inputs = {"first": first.sha256, "last": last.sha256, "reference": reference.sha256}
    work = WorkDir(work_folder, "switch_search", parameters, inputs, CODE)

    def measure(plan: SamplingPlan) -> dict[str, float]:
        measured = meter.measure(bank.denoiser(plan), plan.solver, settings.seed)
        return {"fid": measured.fid, "gmacs": measured.trace.gmacs_per_image}

    def evaluate(trial: Trial) -> tuple[float, float]:
        plan = space.suggest(trial)
        # two proposals that come to the same networks at the same timesteps are one
        values = work.remember(f"{plan.solver.label}_{plan.solver.steps}_{plan.runs}", lambda: measure(plan))
        return values["fid"], values["gmacs"]

    trials = run_study(work.folder, settings.n_trials, settings.seed, space.anchors(), evaluate)
    table = trials_table(trials, space)
    for row in table[table["on_front"]].drop_duplicates("plan").to_dict("records"):
        with tracking.current().child(f"trial {row['trial']}: {row['plan']}") as child:
            child.log_params({key: row[key] for key in ("plan", "solver", "steps", "edges_by", "k", "edges")})
            child.log_metrics({"fid": row["fid"], "gmacs": row["gmacs"]})
    return table


def choose_schedules(trials: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Up to `count` two-stage trials of the front, spread over it from the lowest FID to the lowest cost."""
    from ...search.trials import spread

    return [
        {
            "trial": int(row["trial"]),
            "edges_by": row["edges_by"],
            "solver": row["solver"],
            "steps": int(row["steps"]),
            "k": int(row["k"]),
            "edges": [float(edge) for edge in row["edges"]],
            "serves": list(row["serves"]),
            "fid": float(row["fid"]),
            "gmacs": float(row["gmacs"]),
            "on_front": bool(row["on_front"]),
        }
        for row in spread(trials, count)
    ]
