"""The findings in words: the recommendation, what it rests on, and what a reader must know before trusting it."""

from ..metrics.intervals import CONFIDENCE
from .findings import Comparison, Control, Findings
from .measured import MeasuredPlan
from .wording import counted, difference_text, number, percent, sentence

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
            text = f"Stay with {deep}: nothing cheaper is free" if findings.cheaper else f"Stay with {deep}: nothing cheaper was evaluated"
    return text + (f" \N{EM DASH} but {findings.rivals[0].plan.name} does better" if findings.rivals else "")


def reasons(findings: Findings) -> list[str]:
    """One or two sentences behind the headline, and one for every rival."""
    first = _prices(findings) if findings.verdict == "stay with deep" else _pick(findings.pick)
    controls = findings.controls.get(findings.pick.plan.name, ())
    rivals = {rival.plan.name for rival in findings.rivals}
    same_network = [control for control in controls[:1] if control.comparison.plan.name not in rivals]
    return [first, *(against(control) for control in same_network), *(_rival(rival) for rival in findings.rivals)]


def _pick(pick: Comparison) -> str:
    plan, baseline = pick.plan, pick.other
    saved = f"{sentence(plan.name)} takes {number(plan.gmacs)} GMACs an image, {percent(1 - pick.cost_ratio)} less than {baseline.name}"
    how = "and its FID is lower" if pick.standing == "better" else "and its FID is not credibly worse"
    return f"{saved}, {how}: {difference_text(pick.difference)}, {blocks(plan)}."


def _prices(findings: Findings) -> str:
    deep = findings.baseline
    if not findings.cheaper:
        return f"No evaluated switch, nor the shallow network, costs less than {deep.name}."
    prices = "; ".join(price(comparison) for comparison in findings.cheaper)
    return f"All that costs less than {deep.name} is credibly worse over {blocks(deep)}: {prices}."


def price(comparison: Comparison) -> str:
    """"duodiff ddim 20 k=6 saves 21% for FID +2.1 (95% interval +1.0 to +3.2)"."""
    return f"{comparison.plan.name} saves {percent(1 - comparison.cost_ratio)} for FID {difference_text(comparison.difference)}"


def against(control: Control) -> str:
    """How a control stands to its DuoDiff."""
    comparison = control.comparison
    standing = {"better": "is better than", "worse": "is worse than", "indistinguishable": "cannot be told apart from"}[comparison.standing]
    at = f"{percent(comparison.cost_ratio)} of its cost"
    return f"{sentence(control.what)}, {standing} {comparison.other.name} at {at}: FID {difference_text(comparison.difference)}."


def _rival(rival: Comparison) -> str:
    at = f"{percent(rival.cost_ratio)} of the cost of {rival.other.name}"
    return f"{sentence(rival.plan.name)} is not credibly worse than the baseline either, at {at} and FID {difference_text(rival.difference)} against it."


def blocks(plan: MeasuredPlan) -> str:
    return f"{counted(len(plan.fid_blocks), 'block')} of {counted(plan.record.n_generated, 'image')}"


def depth(findings: Findings) -> str:
    """Whether the deep network is better than the shallow one at all."""
    shallow = findings.shallow
    outcome = {"worse": "depth pays", "better": "depth does harm here", "indistinguishable": "depth shows no gain"}[shallow.standing]
    return f"{sentence(outcome)}: {shallow.plan.name} minus {shallow.other.name} is FID {difference_text(shallow.difference)}."


def floor(findings: Findings) -> str:
    measured = findings.floor
    text = f"Floor, {counted(measured.n_images, 'real training image')} instead of generated ones: {number(measured.mean)} ± {number(measured.spread)}"
    if findings.floor_ratio is None:
        return f"{text}. It was measured at another n and does not compare."
    return f"{text}. {sentence(findings.baseline.name)} stands at {number(findings.floor_ratio)} times that."


def resolution(findings: Findings) -> str:
    """What the blocks could not have shown."""
    differences = [c.difference for c in findings.against_deep]
    half_widths = sorted((d.high - d.low) / 2 for d in differences)
    middle = half_widths[len(half_widths) // 2]
    return f"A difference of FID below about {number(middle)} does not show with {blocks(findings.baseline)}."


def caveats(findings: Findings, held_out_accuracy: float) -> list[str]:
    """What must be known before trusting the numbers; empty where nothing is wrong."""
    found = [sentence(warning) + "." for plan in findings.plans for warning in plan.record.warnings]
    if not findings.floor_compares:
        n = findings.baseline.record.n_generated
        found.append(f"The floor was measured with {findings.floor.n_images} images, the FIDs with {n}: they do not compare.")
    elif findings.floor_ratio is not None and findings.floor_ratio > FAR_FROM_FLOOR:
        ratio = number(findings.floor_ratio)
        found.append(f"The baseline is {ratio} times the floor: it is not trained to its end, and a better one may ask for another switch.")
    if held_out_accuracy < LOW_ACCURACY:
        found.append(f"The feature extractor names only {percent(held_out_accuracy)} of the held-out images rightly: its distances say little.")
    if findings.shallow.standing != "worse":
        found.append(f"{depth(findings)} There is then nothing that a switch could keep.")
    if not findings.duodiffs:
        found.append("The search found no schedule in which both networks serve.")
    if findings.pick.standing == "indistinguishable" and findings.verdict != "stay with deep":
        worst = number(findings.pick.difference.high)
        found.append(f"Not credibly worse is not equal: at {CONFIDENCE:.0%} confidence the recommendation may still cost up to {worst} FID.")
    return list(dict.fromkeys(found))
