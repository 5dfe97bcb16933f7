"""The five questions of the report's first screen: where to switch, between what, what it buys, at what price, how sure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import Backbone, Parameters
from .findings import Findings
from .measured import MeasuredPlan
from .statements import blocks, depth, floor, resolution
from .switches import SwitchRange, evaluated_switch
from .wording import MINUS, difference_text, interval_ends, number, percent, signed


@dataclass(frozen=True)
class Answer:
    """answer: the short one; details: sentences below it."""

    question: str
    answer: str
    details: list[str] = field(default_factory=list)


def answers(findings: Findings, parameters: Parameters, suggested: Sequence[SwitchRange], accuracy: dict[str, Any]) -> list[Answer]:
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
        details = [f"With {plan.solver.label}, {plan.solver.steps} steps: between timesteps {own.high:.0f} and {own.low:.0f}."]
        details += [_agreement(switch, own) for switch in suggested if switch.edge is not None]
    else:
        answer = "nowhere"
        details = [f"{plan.serves[0]} serves all {plan.nfe} evaluations ({plan.solver.label}, {plan.solver.steps} steps)."]
        details += [f"Exit statistics suggest timestep {s.edge:.0f} at {s.label}." for s in suggested if s.edge is not None]
    if all(switch.edge is None for switch in suggested):
        details.append("Exit statistics suggest no switch at any threshold.")
    return Answer("Where to switch", answer, details)


def _agreement(suggested: SwitchRange, searched: SwitchRange) -> str:
    """Whether the range of a searched switch meets the interval of a suggested one."""
    low, high = suggested.low or 0.0, suggested.high or 0.0
    meet = (searched.low or 0.0) <= high and low <= (searched.high or 0.0)
    return f"Exit statistics at {suggested.label} {'agree' if meet else 'disagree'}: timestep {suggested.edge:.0f}, 95% interval {high:.0f} to {low:.0f}."


def _between(plan: MeasuredPlan, parameters: Parameters) -> Answer:
    names = list(dict.fromkeys(plan.serves))
    answer = " \N{RIGHTWARDS ARROW} ".join(names) if len(names) > 1 else f"{names[0]} alone"
    return Answer("Between what", answer, [f"{name}: {_network(parameters.backbones[name])}." for name in names])


def _network(backbone: Backbone) -> str:
    return f"{backbone.depth} blocks, {backbone.width} wide, patch {backbone.patch}, {backbone.steps:,} training steps"


def _buys(findings: Findings) -> Answer:
    plan, baseline = findings.pick.plan, findings.baseline
    if plan is baseline:
        return Answer("What it buys", "nothing to buy", [f"{number(plan.gmacs)} GMACs and {_milliseconds(plan)} an image."])
    answer = f"{MINUS}{percent(1 - findings.pick.cost_ratio)} GMACs, FID {signed(findings.pick.difference)}"
    details = [
        f"GMACs an image: {number(plan.gmacs)} instead of {number(baseline.gmacs)}.",
        f"Measured: {_milliseconds(plan)} an image instead of {_milliseconds(baseline)}, {plan.speed_up:.2f} times as fast "
        f"({plan.speed_up_low:.2f} to {plan.speed_up_high:.2f} over blocks).",
        f"FID difference to {baseline.name}: {difference_text(findings.pick.difference)}.",
    ]
    return Answer("What it buys", answer, details)


def _milliseconds(plan: MeasuredPlan) -> str:
    return f"{number(plan.seconds_per_image * 1e3)} ms"


def _price(plan: MeasuredPlan, baseline: MeasuredPlan) -> Answer:
    """What is held in memory and trained beyond, or short of, the deep network."""
    extra = plan.resident_parameters - baseline.resident_parameters
    memory = f"In memory: {number(plan.resident_mb)} MB at 4 bytes a parameter; {baseline.serves[0]} alone {number(baseline.resident_mb)} MB."
    training = f"Training: {number(plan.training_gmacs)} GMACs; {baseline.serves[0]} alone {number(baseline.training_gmacs)}."
    if extra == 0:
        return Answer("At what price", "no second network", [memory, training])
    change = f"{abs(extra) / 1e6:.3g} M parameters ({percent(abs(extra) / baseline.resident_parameters)})"
    return Answer("At what price", f"{'+' if extra > 0 else MINUS}{change}", [memory, training])


def _how_sure(findings: Findings, accuracy: dict[str, Any]) -> Answer:
    plan = findings.pick.plan
    details = [resolution(findings), floor(findings), depth(findings)]
    details.append(f"Features: {accuracy['name']}, {percent(accuracy['held_out_accuracy'])} of held-out images named rightly.")
    if plan is findings.baseline:
        return Answer("How sure", f"{blocks(plan)}", details)
    return Answer("How sure", f"95%: FID {interval_ends(findings.pick.difference)}", [f"Paired over {blocks(plan)}.", *details])
