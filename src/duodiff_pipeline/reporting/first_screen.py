"""The first answers: where to switch, between what, what it buys, at what price, how sure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from ..config import Backbone, Parameters
from ..metrics.intervals import CONFIDENCE
from ..networks.files import BYTES_PER_PARAMETER
from .findings import Findings
from .measured import MeasuredPlan
from .statements import blocks_said, floor_images
from .switches import SwitchRange, evaluated_switches
from .wording import MINUS, counted, difference_text, interval_ends, listed, number, percent, signed, spread_text

DEPTH = {"better": "Depth does harm here", "worse": "Depth pays", "indistinguishable": "Depth shows no gain"}


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
        return Answer("How sure", blocks_said(plan), details)
    return Answer("How sure", f"{CONFIDENCE:.0%}: FID {interval_ends(findings.pick.difference)}", details)


def _resolution(findings: Findings) -> str:
    """What the blocks can show: the middle one of the half widths of all intervals."""
    middle = median((c.difference.high - c.difference.low) / 2 for c in findings.against_deep)
    return f"Paired over {blocks_said(findings.baseline)}: a difference of FID below about {middle:.2g} does not show."


def _floor(findings: Findings) -> str:
    measured = findings.floor
    images = counted(measured.n_images, f"real {floor_images(findings)} image")
    text = f"Floor, {images} instead of generated ones: {spread_text(measured.mean, measured.spread)}"
    if findings.floor_ratio is None:
        return f"{text}; measured at another n, it does not compare."
    return f"{text}; {findings.baseline.name} stands at {number(findings.floor_ratio)} times that."


def _depth(findings: Findings) -> str:
    """Whether the deep network is better than the shallow one at all."""
    shallow = findings.shallow
    names = f"{shallow.plan.name} minus {shallow.other.name}"
    return f"{DEPTH[shallow.standing]}: {names} is FID {difference_text(shallow.difference)}."
