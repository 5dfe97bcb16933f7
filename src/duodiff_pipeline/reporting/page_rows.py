"""Rows of the report's tables, as text."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..metrics.intervals import Interval
from ..metrics.records import MetricRecord
from .findings import Control, Findings
from .measured import MEMORISATION, MeasuredPlan
from .seconds import TimedBatch
from .style import ROLES
from .wording import change_text, counted, listed, number, percent, record_text, share_text, speed_up_text


def exit_row(row: Mapping[Any, Any], full_depth: int) -> dict[str, str]:
    plateau = row["plateau_depth"]
    return {
        "threshold": f"u \N{LESS-THAN OR EQUAL TO} {row['threshold']:g}",
        "mean_depth": f"{row['mean_depth']:.1f} of {full_depth}",
        "full": percent(row["share_full"]),
        "plateau": "none" if pd.isna(plateau) else counted(plateau, "block"),
        "plateau_share": percent(row["share_plateau"]),
        "changes": f"{row['changes_mean']:.1f}",
        "one_change": percent(row["share_one_change"]),
    }


def control_row(control: Control) -> dict[str, str]:
    comparison = control.comparison
    return {
        "what": control.what,
        "plan": comparison.plan.name,
        "cost": percent(comparison.cost_ratio),
        "fid": _unbroken(record_text(comparison.plan.record)),
        "difference": difference_shown(comparison.difference),
        "standing": comparison.standing,
    }


def plan_row(plan: MeasuredPlan, findings: Findings) -> dict[str, Any]:
    comparison = next((c for c in findings.against_deep if c.plan is plan), None)
    return {
        "name": plan.name,
        "colour": ROLES[plan.role].colour,
        "picked": plan is findings.pick.plan,
        "runs": f"{plan.runs} ({plan.note})" if plan.note else plan.runs,
        "nfe": plan.nfe,
        "k": ", ".join(map(str, plan.switches)),
        "edges": ", ".join(f"{edge:.1f}" for edge in plan.edges),
        "gmacs": number(plan.gmacs),
        "cost": percent(plan.gmacs / findings.baseline.gmacs),
        "milliseconds": number(plan.seconds_per_image * 1e3),
        "speed_up": _unbroken(speed_up_text(plan)) if comparison else "1",
        "fid": _unbroken(record_text(plan.record)),
        "difference": difference_shown(comparison.difference) if comparison else "baseline",
        "standing": comparison.standing if comparison else "",
        "kid": _unbroken(record_text(plan.records["kid"])),
        "kid_difference": difference_shown(comparison.kid_difference) if comparison else "baseline",
        "kid_standing": comparison.kid_standing if comparison else "",
        "more": [_more_text(plan.records[metric]) for metric in plan.more_metrics],
        **{metric: _unbroken(share_text(plan.records[metric])) for metric in MEMORISATION},
        "copies": "more than by chance" if plan.memorises else "no sign of it",
        "resident": number(plan.resident_mb),
        "training": number(plan.training_gmacs),
    }


def _more_text(record: MetricRecord) -> str:
    return _unbroken(record_text(record) if record.name == "fid_infinity" else share_text(record))


def batch_row(batch: TimedBatch) -> dict[str, str]:
    least, middle, most = batch.ratios
    return {
        "images": f"{batch.images}",
        "baseline": number(batch.plans[0].measured * 1e3),
        "ratios": f"{middle:.2f} ({least:.2f} to {most:.2f})",
        "deep": percent(batch.profile["deep"].outside),
        "shallow": percent(batch.profile["shallow"].outside),
    }


def trials_said(trials: pd.DataFrame) -> str:
    """How many there were in every study, and how many of them were given up."""
    studies = listed(f"{len(own)} {study}" for study, own in trials.groupby("study", sort=False))
    beyond, behind = (int(found.sum()) for found in (trials["given_up_after"] == 0, trials["given_up_after"] > 0))
    return f"Trials by study: {studies}. Given up: {behind} that fell behind, {beyond} beyond their budget."


def trial_row(row: Mapping[Any, Any], findings: Findings) -> dict[str, Any]:
    without_exits = (p for p in findings.plans if p.exit_threshold is None)
    fresh = [p for p in without_exits if f"{p.solver.label} {p.solver.steps}, {p.runs}" == row["plan"]]
    return {
        "study": row["study"],
        "fresh": _unbroken(record_text(fresh[0].record)) if fresh else "",
        "trial": row["trial"],
        "plan": row["plan"],
        "edges_by": row["edges_by"].replace("_", " "),
        "k": "" if pd.isna(row["k"]) else f"{row['k']} of {row['nfe']}",
        "edges": ", ".join(f"{edge:.1f}" for edge in row["edges"]),
        "fid": number(row["fid"]),
        "gmacs": number(row["gmacs"]),
    }


def difference_shown(difference: Interval) -> str:
    return _unbroken(change_text(difference))


def _unbroken(text: str) -> str:
    """An interval stays on one line; where a column is narrow it stands below its value."""
    return text.replace(" to ", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}")
