"""FID of every network of the comparison, and the page that says what holds."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ...analysis.clustering import similarity_curves, similarity_edges
from ...analysis.denoiser_similarity import DenoiserDifferences
from ...config import Evaluation, HardwareSettings, Multistage, Noise, Sampling
from ...diffusion.noise import NoiseSchedule
from ...diffusion.solvers import Solver
from ...diffusion.stages import StageSchedule
from ...files import sha256_of_json
from ...images.examples import Examples
from ...metrics.extractor import FeatureExtractor
from ...metrics.reference import Floor, ReferenceStatistics
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...workdir import WorkDir
from ..measuring import make_meter, move_to_device
from ..progress import Progress
from ..timestep_clustering.nodes import candidates_beforehand

CODE = ["diffusion", "metrics", "networks", "pipelines/multistage/nodes.py"]


def measure_stages(
    edges: dict[str, list[float]],
    settings: Multistage,
    evaluation: Evaluation,
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    held_out: Examples,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
    **stored: Any,
) -> pd.DataFrame:
    """One row a network, training seed, checkpoint, number of solver steps and seed block of the evaluation.

    stored: `curve_<name>_<seed>`, and `network_<name>_<seed>_<i>` of every checkpoint i in the order of the curve's.
    The first network also gets the numbers of steps that come nearest to the cost of the others'. Columns: network,
    seed (of the training), training_step, training_gmacs, final, solver, steps, nfe, gmacs an image,
    resident_parameters, block (its seed), fid.
    """
    move_to_device(hardware, *(network for network in stored.values() if isinstance(network, StoredNetwork)))
    meter = make_meter(extractor, reference, held_out, evaluation.images, noise, sampling, hardware)
    parameters = {"n_images": meter.n_images, "sampling": sampling.model_dump(), "hardware": hardware.of_sampling}
    inputs = {"reference": reference.sha256, "held_out": held_out.sha256}
    work = WorkDir(work_folder, "multistage", parameters, inputs, CODE)
    plans = stage_plans(edges, settings, noise.schedule(), sampling, stored)
    wanted = [
        (_key(bank, plan, block), bank, plan, row, block) for block in evaluation.seeds for bank, plan, row in plans
    ]
    progress = Progress([0.0 if work.remembers(key) else row["gmacs"] for key, _, _, row, _ in wanted])
    rows = []
    for key, bank, plan, row, block in wanted:

        def measure(bank: NetworkBank = bank, plan: SamplingPlan = plan, block: int = block) -> float:
            return meter.measure(bank.denoiser(plan), plan.solver, block).fid

        rows.append({**row, "block": block, "fid": work.remember(key, measure)})
        progress.advance()
    return pd.DataFrame(rows)


def report_stages(
    blocks: pd.DataFrame,
    edges: dict[str, list[float]],
    differences: DenoiserDifferences,
    settings: Multistage,
    floor: dict[str, Any],
    held_out: Examples,
    evaluation: Evaluation,
    noise: Noise,
    edge_trials: pd.DataFrame | None = None,
) -> tuple[tuple[str, dict[str, str]], dict[str, Any], str]:
    """The Markdown page with its figures, what the report shows of it, and what the command line does.

    edge_trials: of `search_edges`, where edges were searched.
    """
    from ...reporting.figures_multistage import training_cost_figure
    from ...reporting.figures_noise import edges_figure
    from ...reporting.multistage import multistage_findings, multistage_section, render_multistage

    n_images = evaluation.images or len(held_out)
    measured = Floor(tuple(floor["fid"]["values"]), floor["fid"]["n_images"])
    same_n = measured if measured.n_images == n_images else None
    section = multistage_section(blocks, edges, settings, noise.schedule(), n_images, same_n, edge_trials)
    schedule = noise.schedule()
    curves = similarity_curves(differences, settings.eta).assign(eta=settings.eta)
    figures = {
        "training_cost": training_cost_figure(section),
        "edges": edges_figure(edge_candidates(edges, differences, settings, schedule), curves, [], schedule),
    }
    page, findings = (render_multistage(section), figures), multistage_findings(section)
    return page, findings, "\n".join(section.sentences)


def edge_candidates(
    edges: Mapping[str, Sequence[float]],
    differences: DenoiserDifferences,
    settings: Multistage,
    schedule: NoiseSchedule,
) -> list[dict[str, Any]]:
    """For a figure: the edges of the networks, and those by methods that need no training beside them."""
    own = [{"label": name, "method": "network", "edges": list(found)} for name, found in edges.items() if found]
    stages = {len(found) + 1 for found in edges.values() if found}
    similar = similarity_edges(differences, settings.eta, settings.alpha).edges
    ends = [
        {"label": f"optimal denoisers, like {end}", "method": "optimal_denoiser", "edges": [edge], "end": end}
        for end, edge in zip(("noise", "data"), similar, strict=False)
    ]
    return [*own, *({**end, "alpha": settings.alpha} for end in ends), *candidates_beforehand(schedule, sorted(stages))]


def stage_plans(
    edges: Mapping[str, Sequence[float]],
    settings: Multistage,
    noise: NoiseSchedule,
    sampling: Sampling,
    stored: Mapping[str, Any],
) -> list[tuple[NetworkBank, SamplingPlan, dict[str, Any]]]:
    """What is measured, with its network and the row that says what it is."""
    names = list(settings.networks)

    def plan_of(name: str, steps: int) -> SamplingPlan:
        return SamplingPlan(name, Solver(settings.solver, steps), StageSchedule.of_parts(name, edges[name], noise))

    def bank_of(name: str, seed: int, checkpoint: int) -> NetworkBank:
        network = stored[f"network_{name}_{seed}_{checkpoint}"]
        return NetworkBank({name: network}, guidance=sampling.guidance_by([name]))

    def gmacs(name: str, steps: int) -> float:
        return bank_of(name, settings.seeds[0], len(settings.checkpoints)).static_gmacs(plan_of(name, steps))

    most = settings.sampling_steps[-1]
    first = plan_of(names[0], most)
    an_evaluation = gmacs(names[0], most) / len(first.grid)
    as_dear = {
        first.solver.of_evaluations(gmacs(name, steps) / an_evaluation, noise).steps
        for name in names[1:]
        for steps in settings.sampling_steps
    }
    found = []
    for name, seed in product(names, settings.seeds):
        checkpoints = stored[f"curve_{name}_{seed}"]["checkpoints"]
        for i, checkpoint in enumerate(checkpoints):
            final = i == len(checkpoints) - 1
            steps_of_final = {*settings.sampling_steps, *(as_dear if name == names[0] else ())}
            bank = bank_of(name, seed, i)
            for steps in sorted(steps_of_final) if final else [most]:
                plan = plan_of(name, steps)
                row = {
                    "network": name,
                    "seed": seed,
                    "training_step": checkpoint["step"],
                    "training_gmacs": checkpoint["training_gmacs"],
                    "final": final,
                    "solver": plan.solver.label,
                    "steps": steps,
                    "nfe": len(plan.grid),
                    "gmacs": bank.static_gmacs(plan),
                    "resident_parameters": bank.resident_parameters(plan),
                }
                found.append((bank, plan, row))
    return found


def _key(bank: NetworkBank, plan: SamplingPlan, block: int) -> str:
    """Of all that a block depends on beside what all blocks share; the edges are in the network's identity."""
    (network,) = bank.backbones.values()
    guidance = bank.guidance_of(plan)
    return sha256_of_json([network.sha256, plan.solver.to_dict(), plan.schedule.to_dict(), guidance, block])[:16]
