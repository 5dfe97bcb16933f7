"""What a search costs and misses, on the Fashion-MNIST networks of the repository: `make search-proof`, half an hour.

The exhaustive front is that of all candidates in the evaluation's five blocks of 1,000 images. A search measures them
in one block of other noise; what it puts on its front is judged by the exhaustive FIDs. Cost is counted in
multiply-accumulates that networks really execute.
"""

import sys
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import NSGAIISampler

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sharding import Sampler
from duodiff_pipeline.diffusion.starts import SharedStarts
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.metrics.classifier import FeatureClassifier
from duodiff_pipeline.metrics.measure import Meter
from duodiff_pipeline.metrics.reference import ReferenceStatistics
from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.networks.plans import NetworkBank
from duodiff_pipeline.pipelines.measuring import STARTS_BYTES
from duodiff_pipeline.pipelines.switch_search.plan_meter import PlanMeter
from duodiff_pipeline.search.phases import FRONT, Measure, search
from duodiff_pipeline.search.space import SearchSpace
from duodiff_pipeline.search.storage import open_storage
from duodiff_pipeline.search.study import on_front
from duodiff_pipeline.search.trials import trials_table
from duodiff_pipeline.workdir import WorkDir

DATA = Path(__file__).parents[2] / "data"
NOISE = NoiseSchedule(kind="cosine")
GARMENTS = ImagePack(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.zeros(1).long(), "", "held_out", "")
BLOCKS, IMAGES, SEARCH_SEED = (101, 102, 103, 104, 105), 1000, 2
CANDIDATES = SearchSpace(("ddim",), (4, 5, 8), ("shallow", "deep"), (), NOISE)
SAMPLED = SearchSpace(("ddim",), (5, 8), ("shallow", "middle", "deep"), (), NOISE)
SAMPLER_SEEDS, SAMPLED_TRIALS = range(20), 30


class Counting:
    """A denoiser that adds up the multiply-accumulates it executes."""

    def __init__(self, denoiser, executed):
        self.denoiser, self.executed = denoiser, executed

    def __getattr__(self, name):
        return getattr(self.denoiser, name)

    def predict(self, *arguments):
        prediction = self.denoiser.predict(*arguments)
        self.executed.append(float(prediction.macs.sum()) / 1e9)
        return prediction


class CountingBank:
    def __init__(self, bank):
        self.bank, self.executed = bank, []

    def denoiser(self, plan):
        return Counting(self.bank.denoiser(plan), self.executed)

    def served_by(self, plan):
        return self.bank.served_by(plan)


@pytest.fixture(scope="module")
def bank() -> NetworkBank:
    folder = DATA / "06_models" / "fashion_mnist"
    return NetworkBank({n: StoredNetwork.load(folder / f"{n}.safetensors") for n in ("shallow", "middle", "deep")})


@pytest.fixture(scope="module")
def meter() -> Meter:
    extractor = FeatureClassifier.load(DATA / "06_models" / "fashion_mnist" / "extractor.safetensors")
    reference = ReferenceStatistics.load(DATA / "04_feature" / "fashion_mnist" / "reference.safetensors")
    return Meter(extractor, reference, NOISE, GARMENTS, IMAGES, Sampler("cpu", 50))


def plans_of(space):
    """Every network alone, every single switch, and every two switches, at every number of steps."""
    parameters = space.walk(lambda plan: 0.0)
    for solver, steps in product(space.solvers, space.steps):
        for first, second in product(range(1, steps - 1), range(1, steps - 1)):
            if len(space.backbones) == 3 and first + second < steps:
                shares = [(first - 0.5) / (steps - 2), (second - 0.5) / (steps - first - 1)]
                counts = {f"share of stage {j}": share for j, share in enumerate(shares, 1)}
                parameters.append(
                    {"solver": solver, "steps": steps, "serves": ", ".join(space.backbones)}
                    | {"edges of 3 stages by": "switch"}
                    | counts
                )
    return [space.proposal(one).plan for one in space.distinct(parameters)]


def hypervolume(points, dearest, worst) -> float:
    """Share of the rectangle up to (dearest, worst) that (cost, FID) points dominate."""
    volume, floor = 0.0, worst
    for cost, fid in sorted(points):
        volume += max(0.0, floor - fid) * (dearest - cost)
        floor = min(floor, fid)
    return volume / (dearest * worst)


def name_of(plan) -> str:
    return f"{plan.solver.label} {plan.solver.steps}, {plan.runs}"


@pytest.mark.slow
def test_a_search_costs_a_third_and_finds_the_front(bank, meter, tmp_path, capsys):
    plans = plans_of(CANDIDATES)
    assert len(plans) == 20
    cost = {name_of(plan): bank.static_gmacs(plan) for plan in plans}
    naive = IMAGES * len(BLOCKS) * sum(cost.values())
    fid = {
        name_of(plan): mean(meter.measure(bank.denoiser(plan), plan.solver, seed).fid for seed in BLOCKS)
        for plan in plans
    }

    counting, rungs = CountingBank(bank), meter.rungs((0.25, 0.5))
    work = WorkDir(tmp_path, "search", {}, {}, ["search"], shared=True)
    plan_meter = PlanMeter(meter, counting, work, SEARCH_SEED, rungs, SharedStarts(STARTS_BYTES))
    budgets = [(f"within {share:g}", share * max(cost.values())) for share in (0.25, 0.5)]
    studies = search(
        open_storage(work.folder, None, work.key),
        CANDIDATES,
        Measure(plan_meter.fid, bank.static_gmacs, rungs),
        budgets,
        16,
        len(plans),
        SEARCH_SEED,
    )
    table = trials_table(studies, CANDIDATES, bank.static_gmacs)
    found = set(table.loc[table["on_front"], "plan"])
    exhaustive = set(np.array(list(fid))[on_front(np.array([[cost[name], fid[name]] for name in fid]))])
    dearest, worst = max(cost.values()), max(fid.values())
    volume = {
        which: hypervolume([(cost[name], fid[name]) for name in names], dearest, worst)
        for which, names in (("found", found), ("exhaustive", exhaustive))
    }
    executed = sum(counting.executed)
    without_sharing = sum(row.gmacs for row in table[table["study"] == FRONT].itertuples()) * IMAGES
    lines = [
        f"naive {naive:,.0f} GMACs; the search {executed:,.0f} ({executed / naive:.1%}) for {len(table)} trials,",
        f"of which those of the front alone would take {without_sharing:,.0f} without sharing",
        f"on the front: {len(found)} found, {len(exhaustive)} exhaustive, {len(found & exhaustive)} in both",
        f"hypervolume: {volume['found']:.4f} of {volume['exhaustive']:.4f}",
    ]
    for name in sorted(fid, key=cost.__getitem__):
        where = "found " * (name in found) + "exhaustive" * (name in exhaustive)
        lines.append(f"{name:28} {cost[name]:.4f} {fid[name]:7.1f}  {where}")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert executed <= naive / 3
    assert volume["found"] >= 0.98 * volume["exhaustive"]


@pytest.mark.slow
def test_tpe_finds_no_less_than_nsga_2(bank, meter, tmp_path, capsys):
    plans = {name_of(plan): plan for plan in plans_of(SAMPLED)}
    cost = {name: bank.static_gmacs(plan) for name, plan in plans.items()}
    work = WorkDir(tmp_path, "search", {}, {}, ["search"], shared=True)
    plan_meter = PlanMeter(meter, bank, work, SEARCH_SEED, (IMAGES,), SharedStarts(STARTS_BYTES))
    fid = {name: plan_meter.fid(plan, IMAGES) for name, plan in plans.items()}
    dearest, worst = max(cost.values()), max(fid.values())

    def volume_of(names) -> float:
        return hypervolume([(cost[name], fid[name]) for name in names], dearest, worst)

    def by_tpe(seed) -> float:
        measure = Measure(lambda plan, n: fid[name_of(plan)], lambda plan: cost[name_of(plan)], (IMAGES,))
        folder = tmp_path / f"tpe_{seed}"
        folder.mkdir()
        budgets = [(f"within {share:g}", share * dearest) for share in (0.25, 0.5)]
        in_budget, on_front = SAMPLED_TRIALS // 5, SAMPLED_TRIALS - 2 * (SAMPLED_TRIALS // 5)
        studies = search(open_storage(folder, None, "key"), SAMPLED, measure, budgets, in_budget, on_front, seed)
        return volume_of(trials_table(studies, SAMPLED, bank.static_gmacs)["plan"])

    def by_nsga_2(seed) -> float:
        study = optuna.create_study(directions=["minimize"] * 2, sampler=NSGAIISampler(population_size=10, seed=seed))
        for parameters in SAMPLED.anchors():
            study.enqueue_trial(parameters)
        names = []

        def evaluate(trial):
            names.append(name_of(SAMPLED.suggest(trial).plan))
            return fid[names[-1]], cost[names[-1]]

        study.optimize(evaluate, SAMPLED_TRIALS)
        return volume_of(names)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    volumes = {"TPE": [by_tpe(s) for s in SAMPLER_SEEDS], "NSGA-II": [by_nsga_2(s) for s in SAMPLER_SEEDS]}
    lines = [f"{len(plans)} plans, hypervolume of all {volume_of(fid):.4f}; of {SAMPLED_TRIALS} trials, 20 seeds:"]
    for sampler, found in volumes.items():
        lines.append(f"{sampler:8} mean {mean(found):.4f}, from {min(found):.4f} to {max(found):.4f}")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert mean(volumes["TPE"]) >= mean(volumes["NSGA-II"])
