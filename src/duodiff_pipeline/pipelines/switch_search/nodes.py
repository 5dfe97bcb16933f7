"""The search over who serves, switches, edges, solver and steps. Nothing is trained in a trial."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ... import tracking
from ...config import HardwareSettings, Noise, Sampling, SwitchSearch
from ...diffusion.solvers import Solver
from ...diffusion.starts import SharedStarts
from ...errors import InputError
from ...images.pack import ImagePack
from ...metrics.extractor import FeatureExtractor
from ...metrics.reference import ReferenceStatistics
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, single
from ...workdir import WorkDir
from ..measuring import STARTS_BYTES, make_meter, sampling_device
from .plan_meter import PlanMeter

if TYPE_CHECKING:
    from ...search.space import Candidate, SearchSpace

CODE = ["config/search.py", "diffusion", "metrics", "networks", "search", "pipelines/switch_search"]
NOT_IN_KEY = {"n_trials", "storage"}  # so that a study can be extended, and found again wherever it is kept


def search_switch(
    candidate_edges: list[dict[str, Any]],
    loss_gap_switches: list[dict[str, Any]],
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    held_out: ImagePack,
    settings: SwitchSearch,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
    **stored: StoredNetwork,
) -> pd.DataFrame:
    """All trials of all studies, with the front marked. Any number of processes may do this at once, for one search.

    stored: `network_<name>` of the backbones that are searched over.
    """
    from ...search.phases import Measure, search
    from ...search.storage import open_storage
    from ...search.trials import trials_table

    networks = {name: stored[f"network_{name}"] for name in settings.backbones}
    bank = NetworkBank(networks, guidance=sampling.guidance_by(networks))
    candidates = _candidates(candidate_edges, loss_gap_switches, settings.edges_by)
    space = _space(settings, noise, candidates, bank)
    device = sampling_device(hardware, *networks.values())
    meter = make_meter(extractor, reference, held_out, settings.images, noise, sampling, device)
    parameters = {
        **settings.model_dump(mode="json", exclude=NOT_IN_KEY),
        "images": meter.n_images,
        "noise": noise.model_dump(),
        "sampling": sampling.model_dump(),
        "hardware": hardware.model_dump(),
        "candidates": [asdict(candidate) for candidate in candidates],
    }
    inputs = {**{name: network.sha256 for name, network in networks.items()}, "reference": reference.sha256}
    work = WorkDir(work_folder, "switch_search", parameters, inputs, CODE, shared=True)
    rungs = meter.rungs(settings.rungs)
    plans = PlanMeter(meter, bank, work, settings.seed, rungs, SharedStarts(STARTS_BYTES))
    dearest = single("", settings.backbones[-1], Solver(settings.solvers[0], max(settings.steps)), noise.schedule())
    budgets = [(f"within {share:g}", share * bank.static_gmacs(dearest)) for share in settings.budgets]

    studies = search(
        open_storage(work.folder, settings.storage, work.key),
        space,
        Measure(plans.fid, bank.static_gmacs, rungs),
        budgets,
        settings.budget_trials,
        settings.n_trials,
        settings.seed,
    )
    table = trials_table(studies, space, bank.static_gmacs)
    for row in table[table["on_front"]].drop_duplicates("plan").to_dict("records"):
        with tracking.current().child(f"trial {row['trial']} {row['study']}: {row['plan']}") as child:
            child.log_params(
                {key: row[key] for key in ("plan", "solver", "steps", "history", "edges_by", "k", "edges")}
            )
            child.log_metrics({"fid": row["fid"], "gmacs": row["gmacs"]})
    return table


def _candidates(
    found: Sequence[Mapping[str, Any]], loss_gaps: Sequence[Mapping[str, Any]], edges_by: Sequence[str]
) -> "list[Candidate]":
    """What the wanted methods propose. Another method is one more kind of candidate."""
    from ...search.space import Candidate

    clustered = [Candidate(one["label"], one["method"], tuple(one["edges"])) for one in found]
    by_loss = [
        Candidate(f"loss_gap of {one['solver']} {one['steps']}", "loss_gap", (one["timestep_edge"],))
        for one in loss_gaps
    ]
    return [candidate for candidate in [*clustered, *by_loss] if candidate.method in edges_by]


def _space(settings: SwitchSearch, noise: Noise, candidates: "Sequence[Candidate]", bank: NetworkBank) -> "SearchSpace":
    """Raises InputError where no schedule is left in it."""
    from ...search.space import BY_SWITCH, SearchSpace

    at_most = settings.memory_mb
    space = SearchSpace(
        settings.solvers,
        settings.steps,
        settings.backbones,
        candidates,
        noise.schedule(),
        settings.history,
        {name: low for name, stored in bank.backbones.items() if (low := stored.header.timestep_range[0])},
        settings.stages,
        BY_SWITCH in settings.edges_by,
        lambda serves: at_most is None or bank.resident_mb(serves) <= at_most,
    )
    if not space.orders:
        least = min(bank.resident_mb([name]) for name in settings.backbones)
        raise InputError(
            f"switch_search leaves no schedule: stages {list(settings.stages)}, edges_by {list(settings.edges_by)}, "
            f"memory_mb {at_most} (the smallest network takes {least:.3g})"
        )
    return space


def choose_schedules(trials: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Up to `count` trials of the front with two stages or more, spread from the lowest FID to the lowest cost."""
    from ...search.trials import spread

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
        for row in spread(trials, count)
    ]
