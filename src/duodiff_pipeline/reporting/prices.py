"""What another network costs in memory and training, and after how many images that pays."""

from collections.abc import Mapping

from ..config import Ase
from ..networks.backbone import network_of
from .findings import Findings
from .measured import MeasuredPlan
from .wording import number, percent


def price_rows(
    findings: Findings, ase: Ase | None, training_seconds: Mapping[str, float | None]
) -> list[dict[str, str]]:
    """With as many steps: every DuoDiff against its last network, every exit schedule against its whole one, and every
    multistage network against the deep one, in whose place it is trained; after those the DuoDiffs of their cost.

    training_seconds: by network, None where it was not trained here. There is no row where the other was not evaluated.
    """
    plans = (*findings.duodiffs, *findings.by_parts, *findings.switched_controls)
    rows = (_price_row(plan, findings, ase, training_seconds) for plan in plans)
    return [row for row in rows if row]


def _price_row(
    plan: MeasuredPlan, findings: Findings, ase: Ase | None, training_seconds: Mapping[str, float | None]
) -> dict[str, str] | None:
    last, others = plan.serves[-1], set(plan.serves[:-1])
    if plan.role == "ase" and ase is not None:
        last, others = ase.backbone, {"ase"}
    elif plan.role == "multistage":
        last, others = findings.baseline.serves[-1], {network_of(plan.serves[0])}
    same = [
        p for p in findings.plans if p.serves == (last,) and p.solver == plan.solver.alone and p.exit_threshold is None
    ]
    if not same:
        return None
    (deep,) = same
    saved = deep.gmacs - plan.gmacs
    saved_seconds = deep.seconds_per_image - plan.seconds_per_image
    trained = [training_seconds[name] for name in others - {last}]
    seconds = None if None in trained else sum(s for s in trained if s is not None)
    extra = plan.training_gmacs - deep.training_gmacs
    return {
        "name": plan.name,
        "memory": f"{number(plan.resident_mb)} instead of {number(deep.resident_mb)}",
        "training": f"{number(extra)} ({percent(extra / deep.training_gmacs)})",
        "saved": f"{number(saved)} ({percent(saved / deep.gmacs)})",
        "pays": _pays_after(extra, saved),
        "pays_seconds": "never"
        if saved_seconds <= 0
        else "unknown"
        if seconds is None
        else f"{seconds / saved_seconds:,.0f}",
    }


def _pays_after(spent: float | None, saved_an_image: float) -> str:
    if saved_an_image <= 0:
        return "never"
    if spent is not None and spent <= 0:
        return "at once"
    return "unknown" if spent is None else f"{spent / saved_an_image:,.0f}"
