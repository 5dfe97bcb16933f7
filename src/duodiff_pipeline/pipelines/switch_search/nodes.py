"""The search over who serves, switches, edges, solver and steps. Nothing is trained in a trial."""

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from ... import tracking
from ...analysis.exit_errors import exit_errors
from ...config import Ase, HardwareSettings, LossGap, Noise, Sampling, SwitchSearch
from ...diffusion.noise import NoiseSchedule
from ...diffusion.random import keyed_generator
from ...diffusion.solvers import Solver
from ...diffusion.stages import StageSchedule
from ...diffusion.starts import SharedStarts
from ...errors import InputError
from ...images.examples import Examples
from ...metrics.extractor import FeatureExtractor
from ...metrics.reference import ReferenceStatistics
from ...networks.backbone import network_of
from ...networks.exit_schedule import ExitSchedule
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, single
from ...networks.transformer import TransformerBackbone
from ...workdir import WorkDir
from ..measuring import STARTS_BYTES, make_meter, move_to_device
from .plan_meter import PlanMeter

if TYPE_CHECKING:
    from ...search.space import Candidate, SearchSpace

CODE = ["config/search.py", "diffusion", "metrics", "networks", "search", "pipelines/switch_search"]
ASE = "ase"
NOT_IN_KEY = {"n_trials", "storage"}  # so that a study can be extended, and found again wherever it is kept


def measure_exit_errors(
    backbone: StoredNetwork, ase: StoredNetwork, held_out: Examples, settings: LossGap, hardware: HardwareSettings
) -> pd.DataFrame:
    """What a backbone and its fine-tuned copy err on held-out images at every exit depth; see `exit_errors`.

    Both drop their blocks in the order that the copy was fine-tuned for.
    """
    device = move_to_device(hardware, backbone, ase)
    first = torch.arange(min(settings.images, len(held_out)))
    x0 = held_out.x0(first, keyed_generator(settings.seed, "examples")).to(device)
    after = ase.module
    assert isinstance(after, TransformerBackbone)
    before = copy.deepcopy(after)
    before.load_state_dict(backbone.module.state_dict())
    labels = held_out.labels[: settings.images].to(device) if before.classes else None
    return exit_errors(before, after, x0, settings.seed, labels)


def propose_exit_schedules(errors: pd.DataFrame, ase: StoredNetwork, settings: Ase, noise: Noise) -> pd.DataFrame:
    """Exit schedules with what they are predicted to err, and which of them the search takes: also the trained one."""
    from ...search.exit_candidates import exit_candidates

    trained = ExitSchedule.from_dict(ase.header.exit_schedule or {})
    return exit_candidates(errors, noise.schedule(), settings.candidates, trained)


def search_switch(
    candidate_edges: list[dict[str, Any]],
    loss_gap_switches: list[dict[str, Any]],
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    held_out: Examples,
    settings: SwitchSearch,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
    exit_candidates: pd.DataFrame | None = None,
    **stored: StoredNetwork,
) -> pd.DataFrame:
    """All trials of all studies, with the front marked. Any number of processes may do this at once, for one search.

    exit_candidates: of `propose_exit_schedules`; stored: `network_<name>` of the backbones that are searched over, of
    ASE where there are candidates, and of multistage networks.
    """
    from ...search.phases import Measure, search
    from ...search.storage import open_storage
    from ...search.trials import trials_table

    networks = {name.removeprefix("network_"): network for name, network in stored.items()}
    bank = NetworkBank(networks, guidance=sampling.guidance_by(networks))
    exits = [] if exit_candidates is None else _taken(exit_candidates, noise.schedule())
    space = search_space(settings, noise, bank, candidate_edges, loss_gap_switches, exits)
    move_to_device(hardware, *networks.values())
    meter = make_meter(extractor, reference, held_out, settings.images, noise, sampling, hardware)
    parameters = {
        **settings.model_dump(mode="json", exclude=NOT_IN_KEY),
        "images": meter.n_images,
        "noise": noise.model_dump(),
        "sampling": sampling.model_dump(),
        "hardware": hardware.of_sampling,
        "candidates": [asdict(candidate) for candidate in space.candidates],
        "by_parts": {parts: [one.to_dict() for one in schedules] for parts, schedules in space.by_parts.items()},
    }
    inputs = {**{name: network.sha256 for name, network in networks.items()}, "reference": reference.sha256}
    inputs["held_out"] = held_out.sha256
    work = WorkDir(work_folder, "switch_search", parameters, inputs, CODE, shared=True)
    rungs = meter.rungs(settings.rungs)
    plans = PlanMeter(meter, bank, work, settings.seed, rungs, SharedStarts(STARTS_BYTES))
    studies = search(
        open_storage(work.folder, settings.storage, work.key),
        space,
        Measure(plans.fid, bank.static_gmacs, rungs),
        search_budgets(settings, noise, bank),
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


def search_budgets(settings: SwitchSearch, noise: Noise, bank: NetworkBank) -> list[tuple[str, float]]:
    """Name and GMACs an image of every budget."""
    dearest = single("", settings.backbones[-1], Solver(settings.solvers[0], max(settings.steps)), noise.schedule())
    return [(f"within {share:g}", share * bank.static_gmacs(dearest)) for share in settings.budgets]


def _taken(exit_candidates: pd.DataFrame, noise: NoiseSchedule) -> list[StageSchedule]:
    depths = exit_candidates.loc[exit_candidates["taken"], "depths"]
    return [ExitSchedule(tuple(map(int, each)), noise).stages(ASE) for each in depths]


def _decoders(bank: NetworkBank, noise: Noise) -> list[StageSchedule]:
    """Of every multistage network, cheapest first."""
    found = [
        StageSchedule.of_parts(name, stored.header.stage_edges, noise.schedule())
        for name, stored in bank.backbones.items()
        if stored.header.stage_edges
    ]
    return sorted(found, key=lambda schedule: sum(map(bank.macs, schedule.serves)))


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


def search_space(
    settings: SwitchSearch,
    noise: Noise,
    bank: NetworkBank,
    candidate_edges: Sequence[Mapping[str, Any]],
    loss_gap_switches: Sequence[Mapping[str, Any]],
    exits: Sequence[StageSchedule],
) -> "SearchSpace":
    """exits: the exit schedules of ASE that may serve. Raises InputError where no schedule is left in it."""
    from ...search.space import BY_SWITCH, DECODERS, EXIT_SCHEDULE, SearchSpace

    at_most = settings.memory_mb
    by_parts = {EXIT_SCHEDULE: exits, DECODERS: _decoders(bank, noise)}

    def fits(serves: Sequence[str]) -> bool:
        return at_most is None or bank.resident_mb(serves) <= at_most

    space = SearchSpace(
        settings.solvers,
        settings.steps,
        settings.backbones,
        _candidates(candidate_edges, loss_gap_switches, settings.edges_by),
        noise.schedule(),
        settings.history,
        {name: low for name, stored in bank.backbones.items() if (low := stored.header.timestep_range[0])},
        settings.stages,
        BY_SWITCH in settings.edges_by,
        fits,
        {
            parts: fitting
            for parts, schedules in by_parts.items()
            if parts in settings.by_parts
            and (fitting := [one for one in schedules if fits([network_of(one.serves[0])])])
        },
    )
    if not space.orders:
        least = min(bank.resident_mb([name]) for name in settings.backbones)
        raise InputError(
            f"switch_search leaves no schedule: stages {list(settings.stages)}, edges_by {list(settings.edges_by)}, "
            f"memory_mb {at_most} (the smallest network takes {least:.3g})"
        )
    return space


def choose_schedules(trials: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Trials to evaluate: the whole front, and the best that serve by parts.

    Up to `count` of several networks, spread from the lowest FID to the lowest cost, get controls, and so does what
    serves by parts; where the front has no several networks, the best of them.
    """
    from ...search.trials import best_by_parts, rest_of_front, spread

    chosen = [*spread(trials, count), *best_by_parts(trials)]
    rest = rest_of_front(trials, chosen)
    return [_choice(row, controls=True) for row in chosen] + [_choice(row, controls=False) for row in rest]


def _choice(row: Mapping[Hashable, Any], controls: bool) -> dict[str, Any]:
    return {
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
        "controls": controls,
    }
