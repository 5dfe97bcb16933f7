"""Inputs of the report as a plausible run on digits would leave them, made in a second and freely altered."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from duodiff_pipeline.analysis.change_point import find_change_point
from duodiff_pipeline.analysis.exit_statistics import exit_panels
from duodiff_pipeline.config import Parameters, validate
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.images.digits import read_digits
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.metrics.intervals import block_interval
from duodiff_pipeline.metrics.records import MetricRecord
from duodiff_pipeline.metrics.reference import Floor
from duodiff_pipeline.networks.early_exit import EarlyExits
from duodiff_pipeline.networks.files import NetworkHeader, StoredNetwork
from duodiff_pipeline.networks.uvit import UViT, UViTConfig
from duodiff_pipeline.reporting.curves import measured_with
from duodiff_pipeline.reporting.findings import Findings, weigh
from duodiff_pipeline.reporting.measured import MEMORISATION, measured_plans
from duodiff_pipeline.reporting.report_data import ReportData
from duodiff_pipeline.search.study import on_front

CONF = Path(__file__).parents[2] / "conf" / "base" / "parameters.yml"
SEEDS = (101, 102, 103, 104, 105)
KID_FLOOR = Floor((-1.1, 0.2, 0.9), 599)
MORE_FLOORS = {"fid_infinity": Floor((0.7, 1.4, 1.9), 599), "precision": Floor((0.93, 0.95, 0.97), 599)}
# images: share of time outside matrix products of a run by the deep and by the shallow network
BATCHES = {1: (0.6, 0.8), 16: (0.4, 0.5), 64: (0.3, 0.32)}
COST = {"deep": 0.0178, "middle": 0.0101, "shallow": 0.0062}  # GMACs an evaluation
COST |= {"ase/5": 0.0108, "ase/9": 0.0178}
DEPTH = {"deep": 9, "middle": 5, "shallow": 3, "ase/5": 5, "ase/9": 9}
PARAMETERS = {"deep": 1_790_000, "middle": 1_010_000, "shallow": 610_000, "early_exits": 40_000, "ase": 1_790_000}
TRAINING = {"deep": 13_600.0, "middle": 7_700.0, "shallow": 4_700.0, "early_exits": 1_100.0, "ase": 1_300.0}

# name: role, solver, runs from noise to data, mean FID
PLANS: dict[str, tuple[str, str, str, float]] = {
    "deep ddim 20": ("deep", "ddim", "20 deep", 8.2),
    "shallow ddim 20": ("shallow", "ddim", "20 shallow", 27.0),
    "duodiff ddim 20 k=7": ("duodiff", "ddim", "7 shallow, 13 deep", 8.3),
    "control fewer steps ddim 15": ("control", "ddim", "15 deep", 9.9),
    "control reversed ddim 20 k=13": ("control", "ddim", "13 deep, 7 shallow", 19.6),
    "control middle ddim 27": ("control", "ddim", "27 middle", 14.2),
    "deep dpmsolver++ 10": ("deep", "dpmsolver++", "10 deep", 9.4),
    "duodiff dpmsolver++ 10 k=4": ("duodiff", "dpmsolver++", "4 shallow, 6 deep", 10.8),
    "control fewer steps dpmsolver++ 7": ("control", "dpmsolver++", "7 deep", 11.5),
    "control reversed dpmsolver++ 10 k=6": ("control", "dpmsolver++", "6 deep, 4 shallow", 24.0),
    "control middle dpmsolver++ 13": ("control", "dpmsolver++", "13 middle", 15.0),
    "adadiff ddim 20 u<=0.05": ("adadiff", "ddim", "20 deep", 13.1),
}
# and, where a test asks for them, schedules of more networks or others
MORE: dict[str, tuple[str, str, str, float]] = {
    "duodiff ddim 20 k=5,12": ("duodiff", "ddim", "5 shallow, 7 middle, 8 deep", 8.3),
    "control duodiff dpmsolver++ 10 k=5": ("control", "dpmsolver++", "5 shallow, 5 deep", 11.2),
    "control reversed ddim 20 k=8,15": ("control", "ddim", "8 deep, 7 middle, 5 shallow", 19.0),
    "duodiff ddim 20 k=7 middle-deep": ("duodiff", "ddim", "7 middle, 13 deep", 8.25),
    "control reversed ddim 20 k=13 deep-middle": ("control", "ddim", "13 deep, 7 middle", 12.0),
    "deep dpmsolver++ 20": ("deep", "dpmsolver++", "20 deep", 7.9),
    "ase demo ddim 20": ("ase", "ddim", "14 ase/5, 6 ase/9", 8.3),
    "ase demo dpmsolver++ 10": ("ase", "dpmsolver++", "7 ase/5, 3 ase/9", 9.5),
    "ase searched ddim 20": ("ase", "ddim", "10 ase/5, 10 ase/9", 8.0),
}


def parameters(**changes: Any) -> Parameters:
    """The quick start's, with the depths and thresholds of these examples; changes are sections to merge."""
    raw = yaml.safe_load(CONF.read_text())
    for name, depth in {"deep": 9, "middle": 5, "shallow": 3}.items():
        raw["backbones"][name]["depth"] = depth
    raw["exit_statistics"]["thresholds"] = [0.02, 0.05, 0.1, 0.15]
    return validate({**raw, **{section: {**raw[section], **values} for section, values in changes.items()}})


def evaluation(
    fids: Mapping[str, float] | None = None, own_noise: float = 0.35, n_generated: int = 599
) -> dict[str, Any]:
    """records, evaluated, seed_blocks and timings of PLANS; fids: mean FIDs of PLANS or MORE to keep, in their order.

    Blocks share a deviation, as seeds do, and add `own_noise` of the plan's own.
    """
    fids = fids or {name: plan[3] for name, plan in PLANS.items()}
    noise = parameters().noise.schedule()
    shared = np.random.default_rng(0).normal(0, 0.6, len(SEEDS))
    shared -= shared.mean()
    records, evaluated, rows, sampling, by_batch = [], [], [], {}, {images: {} for images in BATCHES}
    for number, (name, mean) in enumerate(fids.items()):
        role, solver_name, runs, _ = (PLANS | MORE)[name]
        own = np.random.default_rng(number).normal(0, own_noise, len(SEEDS))
        values = mean + shared + own - own.mean()
        assignment = [network for run in runs.split(", ") for network in [run.split()[1]] * int(run.split()[0])]
        serves = [network for network, _ in groupby(assignment)]
        solver = Solver(solver_name, len(assignment))
        counts = [len(list(run)) for _, run in groupby(assignment)]
        edges = StageSchedule.from_counts(counts, solver.grid(noise), serves, noise).edges
        switches = tuple(accumulate(counts))[:-1]
        k = switches[0] if len(switches) == 1 else None
        threshold = 0.05 if role == "adadiff" else None
        gmacs = sum(COST[network] for network in assignment) * (0.83 if threshold else 1)
        depth = sum(DEPTH[network] for network in assignment) / len(assignment) * (0.8 if threshold else 1)
        blocks = {"fid": values, "kid": 3 * values - 6}
        blocks |= {"fid_infinity": values - 2, "precision": 0.9 - values / 100, "recall": 0.8 - values / 100}
        blocks |= {metric: 2 / 3 + 0.01 * own for metric in MEMORISATION}
        about = dict(
            n_generated=n_generated,
            n_reference=599,
            extractor="classifier_1x8x8_64",
            extractor_sha256="a" * 64,
            reference_sha256="b" * 64,
            denoiser=name,
            edges=edges,
            solver=solver.label,
            solver_conventions=solver.conventions,
            steps=len(assignment),
            nfe=len(assignment),
            k=k,
            gmacs=gmacs,
            micro_batch_images=200,
            weights="ema",
            seeds=SEEDS,
        )
        for metric, of_blocks in blocks.items():
            interval = block_interval(of_blocks.tolist())
            record = MetricRecord(
                name=metric,
                value=interval.value,
                interval_low=interval.low,
                interval_high=interval.high,
                interval_method=interval.method,
                expected=2 / 3 if metric in MEMORISATION else None,
                **about,
            )
            records.append(record.model_dump(mode="json"))
        served = dict.fromkeys(network.partition("/")[0] for network in serves)
        resident = [*served, *(["early_exits"] if threshold else [])]
        trained = [*resident, *(["deep"] if role == "ase" else [])]
        described = dict(name=name, role=role, control_of=None, **solver.to_dict(), edges=list(edges))
        described |= dict(serves=serves, runs=runs, exit_threshold=threshold, nfe=len(assignment), switches=switches)
        described |= dict(
            note="sampled otherwise" if "searched" in name else "",
            resident_parameters=sum(PARAMETERS[n] for n in resident),
            training_gmacs=sum(TRAINING[n] for n in trained),
        )
        seconds = (gmacs * 0.011 + 0.00008 * len(assignment) / 20) * (1.6 if threshold else 1)
        speed_up = (COST["deep"] * 20 * 0.011 + 0.00008) / seconds
        evaluated.append(described)
        rows.append(
            pd.DataFrame({"plan": name, "role": role, "seed": SEEDS, **blocks, "gmacs": gmacs, "exit_depth": depth})
        )
        sampling[name] = dict(
            seconds_per_image=seconds, speed_up=speed_up, speed_up_low=speed_up * 0.95, speed_up_high=speed_up * 1.08
        )
        sampling[name]["seconds_blocks"] = [seconds * factor for factor in (1, 1.2, 0.9, 1, 1.1)]  # of all alike
        for images, timed in by_batch.items():
            an_image = seconds + 0.0004 * len(assignment) / images
            if role != "control":
                timed[name] = {"seconds_per_image": an_image, "low": 0.9 * an_image, "high": 1.2 * an_image}
                timed[name]["rounds"] = [an_image * factor for factor in (1, 1.2, 0.9, 1, 1.1)]  # of all alike
                timed[name]["gmacs"] = gmacs * (1.1 if threshold else 1)  # of those images
    timings = {
        "sampling": sampling,
        "training_seconds": {name: 10 * gmacs**0.5 for name, gmacs in TRAINING.items()},
        "by_batch": [
            {"images": images, "plans": timed, "profile": _profile(*BATCHES[images])}
            for images, timed in by_batch.items()
        ],
    }
    return dict(records=records, evaluated=evaluated, seed_blocks=pd.concat(rows, ignore_index=True), timings=timings)


def _profile(deep: float, shallow: float) -> dict[str, dict[str, float]]:
    """Of those shares outside of products, which take the shallow network a tenth longer a multiply-accumulate."""
    found = {}
    for role, outside, slower in (("deep", deep, 1.0), ("shallow", shallow, 1.1)):
        in_products = COST[role] * slower
        found[role] = {"seconds": in_products / (1 - outside), "in_products": in_products}
    return found


def findings(fids: Mapping[str, float] | None = None, floor: Floor | None = None, **changes: Any) -> Findings:
    plans = measured_plans(**evaluation(fids, **changes))
    return weigh(plans, floor or Floor((1.7, 2.4, 2.9), 599), KID_FLOOR, MORE_FLOORS)


def exit_table(settings: Parameters) -> pd.DataFrame:
    """Exits that go deep at a timestep each threshold has of its own, the last threshold never."""
    generator = np.random.default_rng(1)
    grid = settings.exit_statistics.solver.solver().grid(settings.noise.schedule())
    tables = []
    for number, threshold in enumerate(settings.exit_statistics.thresholds):
        switch = generator.normal(880 - 140 * number, 45, (60, 1)) if number < 3 else np.full((60, 1), -1.0)
        deep = np.array(grid)[None] < switch
        depth = np.where(deep, 9, 3) + generator.integers(-1, 2, deep.shape)
        index = pd.MultiIndex.from_product([range(60), range(len(grid))], names=["image", "evaluation"])
        table = pd.DataFrame(
            {"threshold": threshold, "exit_depth": depth.clip(1, 9).ravel()}, index=index
        ).reset_index()
        tables.append(table.assign(timestep=np.array(grid)[table["evaluation"]]))
    return pd.concat(tables, ignore_index=True)


def trials() -> pd.DataFrame:
    generator = np.random.default_rng(2)
    rows = []
    for solver, steps in [("ddim", 10), ("ddim", 20), ("dpmsolver++", 10), ("dpmsolver++", 20)]:
        base = {("ddim", 10): 16, ("ddim", 20): 8.2, ("dpmsolver++", 10): 9.4, ("dpmsolver++", 20): 8.0}[solver, steps]
        chosen = [(None, "deep"), (None, "shallow")] + [(k, None) for k in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)]
        for k, alone in chosen:
            share = {"deep": 0.0, "shallow": 1.0}.get(alone or "", (k or 0) / 10)
            serves = [alone] if alone else ["shallow", "deep"]
            served = round(share * steps)
            rows.append(
                {
                    "trial": len(rows),
                    "plan": f"{solver} {steps}, "
                    + (f"{steps} {alone}" if alone else f"{served} shallow, {steps - served} deep"),
                    "solver": solver,
                    "steps": steps,
                    "history": "carried",
                    "nfe": steps,
                    "edges_by": "one stage"
                    if alone
                    else ["switch", "exit_statistics", "optimal_denoiser"][len(rows) % 3],
                    "k": None if alone else served,
                    "edges": [] if alone else [1000 * (1 - share)],
                    "serves": serves,
                    "fid": base + 19 * max(0, share - 0.3) ** 1.5 * 1.7 + generator.normal(0, 0.4),
                    "gmacs": served * COST["shallow"] + (steps - served) * COST["deep"],
                }
            )
    three = {
        "trial": len(rows),
        "plan": "ddim 20, 5 shallow, 7 middle, 8 deep",
        "solver": "ddim",
        "steps": 20,
        "history": "carried",
        "nfe": 20,
    }
    three |= {
        "edges_by": "uniform_timestep",
        "k": None,
        "edges": [750.0, 400.0],
        "serves": ["shallow", "middle", "deep"],
    }
    rows.append({**three, "fid": 8.0, "gmacs": 5 * COST["shallow"] + 7 * COST["middle"] + 8 * COST["deep"]})
    table = pd.DataFrame(rows).assign(study="front", given_up_after=None, fid_given_up=float("nan"))
    table["on_front"] = on_front(table[["fid", "gmacs"]].to_numpy())
    behind = {"study": "within 0.4", "trial": 0, "fid": float("nan"), "given_up_after": 64, "fid_given_up": 99.0}
    beyond = {**behind, "trial": 1, "given_up_after": 0, "fid_given_up": float("nan")}
    given_up = pd.DataFrame([{**rows[4], **one, "on_front": False} for one in (behind, beyond)])
    return pd.concat([given_up, table], ignore_index=True).astype({"k": "Int64", "given_up_after": "Int64"})


def similarity_curves() -> pd.DataFrame:
    timestep = np.arange(4, 1000, 8)
    curves = []
    for eta, width in ((0.02, 60), (0.1, 140)):
        to_data = 1 / (1 + np.exp((timestep - 3 * width) / width))
        curves.append(
            pd.DataFrame({"timestep": timestep, "to_data": to_data, "to_noise": 0.2 + 0.8 * to_data[::-1], "eta": eta})
        )
    return pd.concat(curves, ignore_index=True)


def candidate_edges(change_points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    exits = [
        ("exit_statistics", f"threshold={c['threshold']}", [c["timestep_edge"]]) for c in change_points if c["found"]
    ]
    others = [
        ("uniform_timestep", "", [500.0]),
        ("uniform_timestep", "", [667.0, 333.0]),
        ("uniform_log_snr", "", [434.0]),
        ("optimal_denoiser_clusters", "eta=0.1", [275.0]),
        ("optimal_denoiser_clusters", "eta=0.1", [625.0, 175.0]),
        ("optimal_denoiser", "eta=0.1 alpha=0.9 end=noise", [906.0]),
        ("optimal_denoiser", "eta=0.1 alpha=0.9 end=data", [61.0]),
        ("optimal_denoiser", "eta=0.1 alpha=0.9", [906.0, 61.0]),
    ]
    return [
        {"label": f"{method} of {len(edges) + 1} stages{shown and ', '}{shown}", "method": method, "edges": edges}
        for method, shown, edges in others + exits
    ]


def report_data(**changes: Any) -> ReportData:
    """All that the page shows beside the findings."""
    settings = parameters()
    table = exit_table(settings)
    change_points = [
        {"threshold": panel.threshold, **asdict(find_change_point(panel, 1))} for panel in exit_panels(table)
    ]
    images, labels = read_digits()
    steps = range(500, 4001, 500)
    data = dict(
        parameters=settings,
        extractor={
            "name": "classifier_1x8x8_64",
            "sha256": "a" * 64,
            "learns": "classes",
            "held_out_accuracy": 0.9766,
        },
        exit_table=table,
        change_points=change_points,
        candidate_edges=candidate_edges(change_points),
        similarity_curves=similarity_curves(),
        trials=trials(),
        timings=evaluation()["timings"],
        sample_grids={
            name: _blurred(images[30 * i : 30 * i + 20], plan[3])
            for i, (name, plan) in enumerate((PLANS | MORE).items())
        },
        training_curves={
            name: {"losses": [[s, level * (s / 500) ** -0.35] for s in steps], "training_gmacs": TRAINING[name]}
            for name, level in (("deep", 0.24), ("middle", 0.27), ("shallow", 0.31), ("early_exits", 2.4))
        },
        experiment="digits",
        **dict(zip(("loss_gap", "loss_gap_switches"), loss_gap(), strict=True)),
        curve_table=curve_table(),
        networks=networks(),
        train=ImagePack(images[:1198], labels[:1198], "digits", "train", "levels 0..16 spread over 0..255"),
        held_out=ImagePack(images[1198:], labels[1198:], "digits", "held_out", "levels 0..16 spread over 0..255"),
        environment="base",
        runtime_params={},
        git={"commit": "c0ffee" * 6 + "abcd", "dirty": True},
        versions={"python": "3.11.2", "torch": "2.13.0", "kedro": "1.7.0"},
    )
    return ReportData(**(data | changes))


def curve_table() -> pd.DataFrame:
    """Every switch of ten steps, free up to k = 4, with deep networks of fewer steps, one middle and one reversed."""
    rows = []

    def measure(role: str, steps: int, k: int | None, gmacs: float, fid: float) -> None:
        name = f"{role} ddim {steps}" + ("" if k is None else f" k={k}")
        noise = np.random.default_rng([len(rows)]).normal(0, 0.2, len(SEEDS))
        about = {"plan": name, "role": role, "solver": "ddim", "steps": steps, "k": k, "gmacs": gmacs}
        rows.append(pd.DataFrame({**about, "seed": SEEDS, "fid": fid + noise}).astype({"k": "Int64"}))

    for k in range(11):
        role = {0: "deep", 10: "shallow"}.get(k, "duodiff")
        cost = k * COST["shallow"] + (10 - k) * COST["deep"]
        measure(role, 10, k if role == "duodiff" else None, cost, 9 + max(0, k - 4) ** 1.5)
    for steps in (4, 6, 8):
        measure("deep", steps, None, steps * COST["deep"], 9 + 0.6 * (10 - steps))
    for steps in (8, 14):
        measure("middle", steps, None, steps * COST["middle"], 14 + 6 / steps)
    measure("reversed", 10, 5, 5 * COST["shallow"] + 5 * COST["deep"], 22)
    identities = {name: networks()[name].sha256 for name in ("shallow", "middle", "deep")}
    return pd.concat(rows, ignore_index=True).assign(measured_with=measured_with(identities, "b" * 64, 599))


def loss_gap() -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Of the curves' ten steps: an excess error that rises with every switch."""
    table = pd.DataFrame({"solver": "ddim", "steps": 10, "evaluation": range(10)})
    table["excess"] = 0.002 * np.arange(1, 11) ** 1.5
    edges = {"timestep_edge": 749.0, "edge_low": 649.0, "edge_high": 849.0}
    return table, [{"solver": "ddim", "steps": 10, "k": 2, "k_low": 1, "k_high": 4, **edges}]


TRAINED_WITH = {"seed": 0, "hardware": {"threads": 1}}


def networks() -> dict[str, StoredNetwork]:
    """Untrained ones of the shapes in `parameters`, but for their width."""
    header = {"timestep_range": (0, 1000), "training": TRAINED_WITH, "weights": "ema", "data_sha256": "ab" * 32}
    stored = {}
    for name, depth in {"deep": 9, "middle": 5, "shallow": 3}.items():
        config = UViTConfig(8, 1, 4, 16, depth, 2)
        network = UViT(config)
        network.init_weights(torch.Generator().manual_seed(depth))
        stored[name] = StoredNetwork(network, NetworkHeader("uvit", asdict(config), step=5000, **header))
    deep = stored["deep"].module
    exits = EarlyExits(deep.config)
    exits.init_weights(deep, torch.Generator().manual_seed(0))
    stored["early_exits"] = StoredNetwork(
        exits,
        NetworkHeader("early_exits", asdict(deep.config), step=1000, backbone_sha256=stored["deep"].sha256, **header),
    )
    return stored


def _blurred(images: torch.Tensor, fid: float) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(3)) * fid * 2
    return (images + noise).clamp(0, 255).to(torch.uint8)
