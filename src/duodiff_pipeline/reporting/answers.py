"""The first screen's questions: where to switch, between what, what it buys, at what price, how sure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import Backbone, Parameters
from ..metrics.intervals import CONFIDENCE
from .findings import Findings
from .measured import BYTES_PER_PARAMETER, MeasuredPlan
from .statements import blocks, depth, floor, resolution
from .switches import SwitchRange, evaluated_switch
from .wording import MINUS, counted, difference_text, interval_ends, number, percent, signed


@dataclass(frozen=True)
class Answer:
    """answer: the short one; details: sentences below it."""

    question: str
    answer: str
    details: list[str] = field(default_factory=list)


def answers(
    findings: Findings, parameters: Parameters, suggested: Sequence[SwitchRange], accuracy: dict[str, Any]
) -> list[Answer]:
    plan = findings.pick.plan
    return [
        _where(findings, parameters, suggested),
        _between(plan, parameters),
        _buys(findings),
        _price(plan, findings.baseline),
        _how_sure(findings, accuracy),
    ]


def _where(findings: Findings, parameters: Parameters, suggested: Sequence[SwitchRange]) -> Answer:
    plan, noise = findings.pick.plan, parameters.noise.schedule()
    if len(plan.edges) == 1:
        own = evaluated_switch(plan, noise)
        answer = f"k = {plan.k} of {plan.nfe} evaluations"
        details = [
            f"With {plan.solver.label}, {plan.solver.steps} steps: between timesteps {own.high:.0f} and {own.low:.0f}."
        ]
        details.append(_suggestions(suggested, own))
    else:
        answer = "nowhere"
        details = [
            f"{plan.serves[0]} serves all {plan.nfe} evaluations ({plan.solver.label}, {plan.solver.steps} steps)."
        ]
        details.append(_suggestions(suggested, None))
    return Answer("Where to switch", answer, details)


def _suggestions(suggested: Sequence[SwitchRange], searched: SwitchRange | None) -> str:
    """What exit statistics suggest, and whether the searched switch meets one of their intervals."""
    found = [switch for switch in suggested if switch.edge is not None]
    if not found:
        return "Exit statistics suggest no switch at any threshold."
    edges = ", ".join(f"{switch.edge:.0f} at {switch.label}" for switch in found)
    text = f"Exit statistics suggest timestep {edges}"
    if searched is None:
        return f"{text}."
    met = [switch.label for switch in found if switch.meets(searched)]
    return f"{text}: the searched switch meets the 95% interval of {', '.join(met) if met else 'none'}."


def _between(plan: MeasuredPlan, parameters: Parameters) -> Answer:
    names = list(dict.fromkeys(plan.serves))
    answer = " \N{RIGHTWARDS ARROW} ".join(names) if len(names) > 1 else f"{names[0]} alone"
    return Answer("Between what", answer, [f"{name}: {_network(parameters.backbones[name])}." for name in names])


def _network(backbone: Backbone) -> str:
    shape = f"{counted(backbone.depth, 'block')}, {backbone.width} wide, patch {backbone.patch}"
    return f"{shape}, {counted(backbone.steps, 'training step')}"


def _buys(findings: Findings) -> Answer:
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


def _price(plan: MeasuredPlan, baseline: MeasuredPlan) -> Answer:
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


def _how_sure(findings: Findings, accuracy: dict[str, Any]) -> Answer:
    plan = findings.pick.plan
    details = [resolution(findings), floor(findings), depth(findings)]
    named = f"{accuracy['held_out_accuracy']:.1%} of held-out images named rightly"
    details.append(f"Features: {accuracy['name']}, {named}.")
    if plan is findings.baseline:
        return Answer("How sure", blocks(plan), details)
    return Answer("How sure", f"{CONFIDENCE:.0%}: FID {interval_ends(findings.pick.difference)}", details)
