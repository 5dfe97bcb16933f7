"""The findings in words: the recommendation and its reasons, and what other sentences share."""

from ..metrics.records import MetricRecord
from .findings import SAME_COST, Comparison, Control, Findings
from .measured import MeasuredPlan
from .wording import counted, difference_text, listed, number, percent, sentence

STANDING = {
    "better": "is better than",
    "worse": "is worse than",
    "indistinguishable": "is not credibly different from",
}


def headline(findings: Findings) -> str:
    """The recommendation in one line."""
    plan, deep = findings.pick.plan, findings.baseline.serves[0]
    match findings.verdict:
        case "shallow all the way":
            text = f"{sentence(plan.serves[0])} all the way is enough"
        case "switch":
            text = f"Switch after {listed(plan.switches)} of {plan.nfe} evaluations between {listed(plan.serves)}"
            text += f": {percent(1 - findings.pick.cost_ratio)} less work"
        case "deep for less":
            text = f"Stay with {deep}, at {counted(plan.nfe, 'evaluation')} instead of {findings.baseline.nfe}"
        case "stay with deep":
            text = f"Stay with {deep}: no switch is free"
    return text + "".join(f" \N{EM DASH} but {rival.plan.name} {_edge_over(rival)}" for rival in findings.rivals[:1])


def reasons(findings: Findings) -> list[str]:
    """One or two sentences behind the headline, and one for every rival."""
    first = _prices(findings) if findings.verdict == "stay with deep" else _pick(findings.pick)
    controls = findings.controls.get(findings.pick.plan.name, ())
    rivals = {rival.plan.name for rival in findings.rivals}
    same_network = [control for control in controls[:1] if control.comparison.plan.name not in rivals]
    return [first, *(against(control) for control in same_network), *(_rival(rival) for rival in findings.rivals)]


def _pick(pick: Comparison) -> str:
    saved = f"{percent(1 - pick.cost_ratio)} less than with {pick.other.name}"
    how = "credibly better" if pick.standing == "better" else "not credibly worse"
    return (
        f"With {pick.plan.name} an image takes {number(pick.plan.gmacs)} GMACs, {saved}, and FID is {how}: "
        f"{difference_text(pick.difference)} over {blocks_said(pick.plan)}."
    )


def _prices(findings: Findings) -> str:
    deep = findings.baseline
    if not findings.cheaper:
        return f"No network alone and no DuoDiff costs less than {deep.name}."
    prices = "; ".join(_price(comparison) for comparison in findings.cheaper)
    return f"Every network alone and DuoDiff below its cost is credibly worse over {blocks_said(deep)}: {prices}."


def _price(comparison: Comparison) -> str:
    """What a cheaper plan costs in FID."""
    saved = percent(1 - comparison.cost_ratio)
    return f"{comparison.plan.name} saves {saved} for FID {difference_text(comparison.difference)}"


def against(control: Control) -> str:
    """How a control stands to its DuoDiff."""
    comparison = control.comparison
    at = f"At {percent(comparison.cost_ratio)} of the cost of {comparison.other.name}"
    outcome = f"{control.what} {STANDING[comparison.standing]} it"
    return f"{at}, {outcome}: FID {difference_text(comparison.difference)}."


def _rival(rival: Comparison) -> str:
    at = f"at {percent(rival.cost_ratio)} of the cost of {rival.other.name}"
    against_it = f"FID {difference_text(rival.difference)} against it"
    return f"But {rival.plan.name} is not credibly worse than the baseline either, {at}, with {against_it}."


def _edge_over(rival: Comparison) -> str:
    return "is cheaper still" if rival.cost_ratio < 1 / SAME_COST else "does better at its cost"


def blocks_said(plan: MeasuredPlan) -> str:
    return f"{counted(len(plan.fid_blocks), 'block')} of {counted(plan.record.n_generated, 'image')}"


def floor_images(findings: Findings) -> str:
    """Which real images the floor is of: others than those of the reference."""
    return "training" if findings.baseline.record.reference == "held_out" else "held-out"


def reference_said(record: MetricRecord) -> str:
    """What the generated images of a record are held against: "599 held-out ones"."""
    if record.n_reference is None:
        return "published statistics"
    return f"{record.n_reference:,} {'training' if record.reference == 'train' else 'held-out'} ones"
