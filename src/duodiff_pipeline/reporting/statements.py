"""The findings in words: the recommendation, its reasons, the first answers, and what to know before trusting them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import pandas as pd

from ..config import Backbone, Parameters
from ..metrics.intervals import CONFIDENCE
from ..metrics.records import MetricRecord
from ..networks.files import BYTES_PER_PARAMETER
from .findings import SAME_COST, Comparison, Control, Findings
from .measured import MEMORISATION, MeasuredPlan
from .switches import SwitchRange, evaluated_switches
from .wording import (
    MINUS,
    counted,
    difference_text,
    interval_ends,
    listed,
    number,
    percent,
    sentence,
    signed,
    spread_text,
)

STANDING = {
    "better": "is better than",
    "worse": "is worse than",
    "indistinguishable": "is not credibly different from",
}
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
        f"{difference_text(pick.difference)} over {_blocks(pick.plan)}."
    )


def _prices(findings: Findings) -> str:
    deep = findings.baseline
    if not findings.cheaper:
        return f"No network alone and no DuoDiff costs less than {deep.name}."
    prices = "; ".join(_price(comparison) for comparison in findings.cheaper)
    return f"Every network alone and DuoDiff below its cost is credibly worse over {_blocks(deep)}: {prices}."


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


def _blocks(plan: MeasuredPlan) -> str:
    return f"{counted(len(plan.fid_blocks), 'block')} of {counted(plan.record.n_generated, 'image')}"


def _depth(findings: Findings) -> str:
    """Whether the deep network is better than the shallow one at all."""
    shallow = findings.shallow
    names = f"{shallow.plan.name} minus {shallow.other.name}"
    return f"{DEPTH[shallow.standing]}: {names} is FID {difference_text(shallow.difference)}."


def _floor(findings: Findings) -> str:
    measured = findings.floor
    images = counted(measured.n_images, f"real {floor_images(findings)} image")
    text = f"Floor, {images} instead of generated ones: {spread_text(measured.mean, measured.spread)}"
    if findings.floor_ratio is None:
        return f"{text}; measured at another n, it does not compare."
    return f"{text}; {findings.baseline.name} stands at {number(findings.floor_ratio)} times that."


def floor_images(findings: Findings) -> str:
    """Which real images the floor is of: others than those of the reference."""
    return "training" if findings.baseline.record.reference == "held_out" else "held-out"


def reference_said(record: MetricRecord) -> str:
    """What the generated images of a record are held against: "599 held-out ones"."""
    if record.n_reference is None:
        return "published statistics"
    return f"{record.n_reference:,} {'training' if record.reference == 'train' else 'held-out'} ones"


def _resolution(findings: Findings) -> str:
    """What the blocks can show: the middle one of the half widths of all intervals."""
    middle = median((c.difference.high - c.difference.low) / 2 for c in findings.against_deep)
    return f"Paired over {_blocks(findings.baseline)}: a difference of FID below about {middle:.2g} does not show."


def caveats(findings: Findings, held_out_accuracy: float | None) -> list[str]:
    """What must be known before trusting the numbers; empty where nothing is wrong."""
    records = [record for plan in findings.plans for record in plan.records.values()]
    found = [sentence(warning) + "." for record in records for warning in record.warnings]
    if not findings.floor_compares:
        n = findings.baseline.record.n_generated
        found.append(f"The floor was measured with {findings.floor.n_images} images, the FIDs with {n}: no comparison.")
    elif findings.floor_ratio is not None and findings.floor_ratio > FAR_FROM_FLOOR:
        far = f"The baseline is {number(findings.floor_ratio)} times the floor"
        found.append(f"{far}: it is not trained to its end, and a better one may ask for another switch.")
    if held_out_accuracy is not None and held_out_accuracy < LOW_ACCURACY:
        right = f"is right on only {percent(held_out_accuracy)} of the held-out images"
        found.append(f"The feature extractor {right}: its distances say little.")
    if findings.shallow.standing != "worse":
        found.append("The deep network is not credibly better than the shallow one: there is nothing to switch for.")
    if not findings.duodiffs:
        found.append("The search found no schedule in which more than one network serves.")
    if findings.pick.standing == "indistinguishable" and findings.verdict != "stay with deep":
        worst = f"may still cost up to {findings.pick.difference.high:.2g} FID"
        found.append(f"Not credibly worse is not equal: at {CONFIDENCE:.0%} confidence the recommendation {worst}.")
    pick = findings.pick
    if pick.kid_standing == "worse" and pick.standing != "worse":
        by_kid = f"{pick.plan.name} is credibly worse than {pick.other.name}, {difference_text(pick.kid_difference)}"
        found.append(f"KID contradicts FID: by KID {by_kid}.")
    memorising = [plan for plan in findings.plans if plan.memorises]
    if memorising:
        found.append(_memorising(memorising, len(findings.plans)))
    plan = findings.pick.plan
    if plan is not findings.baseline and plan.speed_up_low <= 1:
        clock = (
            f"{plan.speed_up:.2f} times as fast ({plan.speed_up_low:.2f} to {plan.speed_up_high:.2f} over the blocks)"
        )
        found.append(f"The saving does not show by the clock: measured, the recommendation is {clock}.")
    return list(dict.fromkeys(found))


def decoding(autoencoder: Mapping[str, Any], findings: Findings) -> str:
    """What costs, speed-ups and seconds leave out where networks learn from latents."""
    gmacs, of_deep = autoencoder["decoding_gmacs"], autoencoder["decoding_gmacs"] / findings.baseline.gmacs
    return (
        f"Costs, seconds and speed-ups are of sampling latents. Decoding an image takes {number(gmacs)} GMACs more, "
        f"whoever serves: {percent(of_deep)} of what the baseline takes to sample it, by which every saving is smaller."
    )


def _memorising(plans: Sequence[MeasuredPlan], of: int) -> str:
    """What speaks for copies, with the plan that shows most of them."""
    most, metric = max(
        ((plan, metric) for plan in plans for metric in MEMORISATION),
        key=lambda found: found[0].records[found[1]].interval_low,
    )
    record = most.records[metric]
    seen = metric.removeprefix("memorisation_")
    nearer = (
        f"{percent(record.value)} of the images of {most.name} in {seen}, {percent(record.expected or 0)} by chance"
    )
    who = f"{len(plans)} of {of} plans draw images credibly nearer to training than to held-out ones"
    return f"Copies: {who} (most: {nearer}). FID and KID reward that."


def exits(summary: pd.DataFrame) -> str:
    """Whether exits are bimodal, with one switch an image; summary as `exit_summary` gives it."""
    two_depths = _span(summary["share_full"] + summary["share_plateau"])
    return (
        "Were exits bimodal, with one switch an image, full depth and the plateau would hold all evaluations and every "
        f"image would change exactly once. Over the thresholds they hold {two_depths}, and "
        f"{_span(summary['share_one_change'])} of images change exactly once."
    )


@dataclass(frozen=True)
class ExitSpeed:
    """The speed-up of early exits against the baseline, three ways: as published, by what was computed, by the clock.

    published: L / mean exit depth, for the published times are those of a whole network times the mean exit depth over
    L; with all probes and heads, which is left out here and makes them 1 to 4 % longer. macs: the ratio of
    multiply-accumulates, probes and heads included; measured: with its extremes over the blocks.
    """

    name: str
    exit_depth: str
    published: str
    macs: str
    measured: str


def exit_speeds(findings: Findings, full_depth: int) -> list[ExitSpeed]:
    """One for every AdaDiff; full_depth: L. Its solver and steps are those of the baseline."""
    return [
        ExitSpeed(
            plan.name,
            f"{plan.exit_depth:.1f} of {full_depth}",
            f"{full_depth / plan.exit_depth:.2f}" if plan.exit_depth else "unbounded",
            f"{findings.baseline.gmacs / plan.gmacs:.2f}",
            f"{plan.speed_up:.2f} ({plan.speed_up_low:.2f} to {plan.speed_up_high:.2f})",
        )
        for plan in findings.adaptive
    ]


def _span(shares: pd.Series) -> str:
    low, high = percent(float(shares.min())), percent(float(shares.max()))
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Answer:
    """answer: the short one; details: sentences below it."""

    question: str
    answer: str
    details: list[str] = field(default_factory=list)


def answers(
    findings: Findings, parameters: Parameters, suggested: Sequence[SwitchRange], accuracy: Mapping[str, Any]
) -> list[Answer]:
    """The first screen's: where to switch, between what, what it buys, at what price, how sure."""
    plan = findings.pick.plan
    return [
        _where_to_switch(findings, parameters, suggested),
        _between_what(plan, parameters),
        _what_it_buys(findings),
        _at_what_price(plan, findings.baseline),
        _how_sure(findings, accuracy),
    ]


def _where_to_switch(findings: Findings, parameters: Parameters, suggested: Sequence[SwitchRange]) -> Answer:
    plan, noise = findings.pick.plan, parameters.noise.schedule()
    if plan.edges:
        own = evaluated_switches(plan, noise)
        answer = f"k = {listed(plan.switches)} of {plan.nfe} evaluations"
        switches = listed(
            f"{before} to {after} between timesteps {switch.high:.0f} and {switch.low:.0f}"
            for (before, after), switch in zip(pairwise(plan.serves), own, strict=True)
        )
        details = [f"With {plan.solver.label}, {plan.solver.steps} steps: {switches}."]
        details.append(_suggestions(suggested, own))
    else:
        answer = "nowhere"
        details = [
            f"{plan.serves[0]} serves all {plan.nfe} evaluations ({plan.solver.label}, {plan.solver.steps} steps)."
        ]
        details.append(_suggestions(suggested, ()))
    return Answer("Where to switch", answer, details)


def _suggestions(suggested: Sequence[SwitchRange], searched: Sequence[SwitchRange]) -> str:
    """What exit statistics suggest, and whether a searched switch meets one of their intervals."""
    found = [switch for switch in suggested if switch.edge is not None]
    if not found:
        return "Exit statistics suggest no switch at any threshold."
    edges = ", ".join(f"{switch.edge:.0f} at {switch.label}" for switch in found)
    text = f"Exit statistics suggest timestep {edges}"
    if not searched:
        return f"{text}."
    met = [switch.label for switch in found if any(switch.meets(own) for own in searched)]
    subject = "the searched switch meets" if len(searched) == 1 else "the searched switches meet"
    return f"{text}: {subject} the 95% interval of {', '.join(met) if met else 'none'}."


def _between_what(plan: MeasuredPlan, parameters: Parameters) -> Answer:
    names = list(dict.fromkeys(plan.serves))
    answer = " \N{RIGHTWARDS ARROW} ".join(names) if len(names) > 1 else f"{names[0]} alone"
    return Answer("Between what", answer, [f"{name}: {_network(parameters.backbones[name])}." for name in names])


def _network(backbone: Backbone) -> str:
    shape = f"{counted(backbone.depth, 'block')}, {backbone.width} wide, patch {backbone.patch}"
    taken = backbone.taken_from
    origin = f"taken from {taken}" if taken else counted(backbone.steps, "training step")
    return f"{shape}, {origin}"


def _what_it_buys(findings: Findings) -> Answer:
    plan, baseline = findings.pick.plan, findings.baseline
    if plan is baseline:
        return Answer("What it buys", "nothing", [f"{number(plan.gmacs)} GMACs and {_milliseconds(plan)} an image."])
    answer = f"{MINUS}{percent(1 - findings.pick.cost_ratio)} GMACs, FID {signed(findings.pick.difference)}"
    details = [
        f"GMACs an image: {number(plan.gmacs)} instead of {number(baseline.gmacs)}.",
        f"Measured: {_milliseconds(plan)} an image instead of {_milliseconds(baseline)}, {plan.speed_up:.2f} times as "
        f"fast ({plan.speed_up_low:.2f} to {plan.speed_up_high:.2f} over blocks).",
        f"FID difference to {baseline.name}: {difference_text(findings.pick.difference)}.",
    ]
    return Answer("What it buys", answer, details)


def _milliseconds(plan: MeasuredPlan) -> str:
    return f"{number(plan.seconds_per_image * 1e3)} ms"


def _at_what_price(plan: MeasuredPlan, baseline: MeasuredPlan) -> Answer:
    """What is held in memory and trained beyond, or short of, the deep network."""
    extra = plan.resident_parameters - baseline.resident_parameters
    memory = f"In memory: {number(plan.resident_mb)} MB at {BYTES_PER_PARAMETER} bytes a parameter"
    training = f"Training: {number(plan.training_gmacs)} GMACs"
    if extra == 0:
        return Answer("At what price", "no second network", [f"{memory}.", f"{training}."])
    memory += f"; {baseline.serves[0]} alone {number(baseline.resident_mb)} MB."
    training += f"; {baseline.serves[0]} alone {number(baseline.training_gmacs)}."
    change = f"{abs(extra) / 1e6:.3g} M parameters ({percent(abs(extra) / baseline.resident_parameters)})"
    return Answer("At what price", f"{'+' if extra > 0 else MINUS}{change}", [memory, training])


def named_rightly(extractor: Mapping[str, Any]) -> str:
    """What share of the held-out images the extractor names rightly; extractor: learns and held_out_accuracy."""
    if extractor["learns"] is None:
        return "a network from a file, not trained on these images"
    what = "images" if extractor["learns"] == "classes" else "images' quarter turns (they have no classes)"
    return f"{extractor['held_out_accuracy']:.1%} of held-out {what} named rightly"


def _how_sure(findings: Findings, accuracy: Mapping[str, Any]) -> Answer:
    plan = findings.pick.plan
    details = [_resolution(findings), _floor(findings), _depth(findings)]
    details.append(f"Features: {accuracy['name']}, {named_rightly(accuracy)}.")
    if plan is findings.baseline:
        return Answer("How sure", _blocks(plan), details)
    return Answer("How sure", f"{CONFIDENCE:.0%}: FID {interval_ends(findings.pick.difference)}", details)
