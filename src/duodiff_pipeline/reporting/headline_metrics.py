"""The numbers that `dvc metrics` and MLflow compare between runs: deterministic ones only, no seconds."""

import re
from collections.abc import Sequence
from typing import Any

from .findings import Comparison, Findings
from .measured import MEMORISATION, METRICS, MORE_METRICS
from .switches import SwitchRange


def headline_metrics(
    findings: Findings, held_out_accuracy: float | None, suggested: Sequence[SwitchRange]
) -> dict[str, Any]:
    """Nested; what does not exist (a switch that was not found, k but of two stages) is left out."""
    pick = findings.pick
    return {
        "recommendation": {"verdict": findings.verdict, "plan": pick.plan.name, **_against_deep(pick)},
        "plans": {slug(plan.name): _plan(findings, plan.name) for plan in findings.plans},
        "controls": {
            slug(duodiff): {slug(control.comparison.plan.name): _standing(control.comparison) for control in controls}
            for duodiff, controls in findings.controls.items()
        },
        "floor": {
            "mean": findings.floor.mean,
            "spread": findings.floor.spread,
            "kid_mean": findings.kid_floor.mean,
            "kid_spread": findings.kid_floor.spread,
            **{f"{metric}_mean": floor.mean for metric, floor in findings.more_floors.items()},
            **{f"{metric}_spread": floor.spread for metric, floor in findings.more_floors.items()},
            "n_images": findings.floor.n_images,
        },
        "memorisation_by_chance": findings.baseline.records["memorisation_pixels"].expected,
        "extractor": _present(held_out_accuracy=held_out_accuracy),
        "suggested_switch": {
            slug(switch.label): _present(found=switch.edge is not None, **_switch(switch)) for switch in suggested
        },
        "searched_switch": {
            slug(plan.name): _present(k=plan.k, edges=_edges(plan.edges)) for plan in findings.duodiffs
        },
    }


def flat_metrics(nested: dict[str, Any]) -> dict[str, float]:
    """The headline of them under names that MLflow takes: "fid/deep_ddim_20", "floor/mean"."""
    shown = (*METRICS, *MORE_METRICS, "gmacs")
    flat = {f"{value}/{plan}": own[value] for plan, own in nested["plans"].items() for value in shown if value in own}
    flat |= {f"floor/{value}": of for value, of in nested["floor"].items() if value != "n_images"}
    flat |= {
        f"recommendation/{name}": value for name, value in nested["recommendation"].items() if isinstance(value, float)
    }
    return flat | {f"extractor/{value}": of for value, of in nested["extractor"].items()}


def slug(name: str) -> str:
    """A key without characters that mean something in paths: duodiff_dpmsolverpp_20_k6."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", re.sub(r"[<>=()]", "", name.replace("+", "p"))).strip("_")


def _plan(findings: Findings, name: str) -> dict[str, Any]:
    plan = next(plan for plan in findings.plans if plan.name == name)
    comparison = next((c for c in findings.against_deep if c.plan.name == name), None)
    record, kid = plan.record, plan.records["kid"]
    own = _present(
        fid=plan.fid,
        fid_low=record.interval_low,
        fid_high=record.interval_high,
        kid=kid.value,
        kid_low=kid.interval_low,
        kid_high=kid.interval_high,
        **{
            name: value
            for metric in plan.more_metrics
            for name, value in (
                (metric, plan.records[metric].value),
                (f"{metric}_low", plan.records[metric].interval_low),
                (f"{metric}_high", plan.records[metric].interval_high),
            )
        },
        **{metric: plan.records[metric].value for metric in MEMORISATION},
        gmacs=plan.gmacs,
        nfe=plan.nfe,
        k=plan.k,
    )
    return own | (_against_deep(comparison) if comparison else {})


def _against_deep(comparison: Comparison) -> dict[str, float]:
    difference = comparison.difference
    return {
        "cost_ratio": comparison.cost_ratio,
        "fid_difference": difference.value,
        "fid_difference_low": difference.low,
        "fid_difference_high": difference.high,
    }


def _standing(comparison: Comparison) -> dict[str, Any]:
    return {"standing": comparison.standing, **_against_deep(comparison)}


def _switch(switch: SwitchRange) -> dict[str, Any]:
    return {"k": switch.k, "edge": switch.edge, "edge_low": switch.low, "edge_high": switch.high}


def _edges(edges: Sequence[float]) -> dict[str, float]:
    """By number, since `dvc metrics` reads no lists."""
    return {str(j): edge for j, edge in enumerate(edges, start=1)}


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
