"""The findings in words: the recommendation, what it rests on, and what a reader must know before trusting it."""

from statistics import median

from ..metrics.intervals import CONFIDENCE
from .findings import SAME_COST, Comparison, Control, Findings
from .measured import MeasuredPlan
from .wording import counted, difference_text, number, percent, sentence, spread_text

STANDING = {"better": "is better than", "worse": "is worse than", "indistinguishable": "does as well as"}
DEPTH = {"better": "Depth does harm here", "worse": "Depth pays", "indistinguishable": "Depth shows no gain"}
LOW_ACCURACY = 0.9
# The project asks of a deep network worth speeding up that it comes this near to real images.
FAR_FROM_FLOOR = 5


def headline(findings: Findings) -> str:
    """The recommendation in one line."""
    plan, deep = findings.pick.plan, findings.baseline.serves[0]
    match findings.verdict:
        case "shallow all the way":
            text = f"{sentence(plan.serves[0])} all the way is enough"
        case "switch":
            text = f"Switch after {plan.k} of {plan.nfe} evaluations between {plan.serves[0]} and {plan.serves[-1]}"
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
        f"{difference_text(pick.difference)} over {blocks(pick.plan)}."
    )


def _prices(findings: Findings) -> str:
    deep = findings.baseline
    if not findings.cheaper:
        return f"No network alone and no DuoDiff costs less than {deep.name}."
    prices = "; ".join(price(comparison) for comparison in findings.cheaper)
    return f"Every network alone and DuoDiff below its cost is credibly worse over {blocks(deep)}: {prices}."


def price(comparison: Comparison) -> str:
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


def blocks(plan: MeasuredPlan) -> str:
    return f"{counted(len(plan.fid_blocks), 'block')} of {counted(plan.record.n_generated, 'image')}"


def depth(findings: Findings) -> str:
    """Whether the deep network is better than the shallow one at all."""
    shallow = findings.shallow
    names = f"{shallow.plan.name} minus {shallow.other.name}"
    return f"{DEPTH[shallow.standing]}: {names} is FID {difference_text(shallow.difference)}."


def floor(findings: Findings) -> str:
    measured = findings.floor
    images = counted(measured.n_images, "real training image")
    text = f"Floor, {images} instead of generated ones: {spread_text(measured.mean, measured.spread)}"
    if findings.floor_ratio is None:
        return f"{text}; measured at another n, it does not compare."
    return f"{text}; {findings.baseline.name} stands at {number(findings.floor_ratio)} times that."


def resolution(findings: Findings) -> str:
    """What the blocks can show: the middle one of the half widths of all intervals."""
    middle = median((c.difference.high - c.difference.low) / 2 for c in findings.against_deep)
    return f"Paired over {blocks(findings.baseline)}: a difference of FID below about {middle:.2g} does not show."


def caveats(findings: Findings, held_out_accuracy: float) -> list[str]:
    """What must be known before trusting the numbers; empty where nothing is wrong."""
    found = [sentence(warning) + "." for plan in findings.plans for warning in plan.record.warnings]
    if not findings.floor_compares:
        n = findings.baseline.record.n_generated
        found.append(f"The floor was measured with {findings.floor.n_images} images, the FIDs with {n}: no comparison.")
    elif findings.floor_ratio is not None and findings.floor_ratio > FAR_FROM_FLOOR:
        far = f"The baseline is {number(findings.floor_ratio)} times the floor"
        found.append(f"{far}: it is not trained to its end, and a better one may ask for another switch.")
    if held_out_accuracy < LOW_ACCURACY:
        named = f"names only {percent(held_out_accuracy)} of the held-out images rightly"
        found.append(f"The feature extractor {named}: its distances say little.")
    if findings.shallow.standing != "worse":
        found.append("The deep network is not credibly better than the shallow one: there is nothing to switch for.")
    if not findings.duodiffs:
        found.append("The search found no schedule in which both networks serve.")
    if findings.pick.standing == "indistinguishable" and findings.verdict != "stay with deep":
        worst = f"may still cost up to {findings.pick.difference.high:.2g} FID"
        found.append(f"Not credibly worse is not equal: at {CONFIDENCE:.0%} confidence the recommendation {worst}.")
    return list(dict.fromkeys(found))
