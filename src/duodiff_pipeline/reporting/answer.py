"""The answer in Markdown, for a repository's documents: what was measured, and what holds of the papers' claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from ..analysis.exit_statistics import exit_summary
from ..diffusion.noise import NoiseSchedule
from ..errors import InputError
from ..networks.early_exit import EarlyExits
from ..networks.files import StoredNetwork
from ..networks.transformer import TransformerBackbone
from .adaptive import AgainstAdaptive, against_adaptive
from .curves import SwitchCurve, controls, measured_with, rival_name, switch_curves
from .exit_schedules import CLAIM, Saving, claim, saving_rows, savings
from .figures_curves import curves_figure, loss_gap_figure, samples_figure
from .findings import Comparison, Findings, Standing, standing
from .measured import MeasuredPlan
from .page import full_depth, run_command
from .prices import price_rows
from .report_data import ReportData
from .seconds import timed_batches, why_seconds_differ
from .statements import exit_speeds, exits, floor_images, headline, reasons, reference_said
from .switches import SwitchRange, suggested_switches
from .template import render
from .training_commands import training_commands
from .wording import change_text, counted, listed, number, percent, record_text, speed_up_text, spread_text


@dataclass(frozen=True)
class AnswerData:
    """What the answer shows beside the findings.

    experiment: its name; loss_gap, loss_gap_switches: of the pipeline loss_gap; curve_table: of switch_curves;
    networks: by name, those of early exits included; training_seconds: by network, None where it came from a file.
    """

    experiment: str
    report: ReportData
    loss_gap: pd.DataFrame
    loss_gap_switches: Sequence[Mapping[str, Any]]
    curve_table: pd.DataFrame
    networks: Mapping[str, StoredNetwork]
    training_seconds: Mapping[str, float | None]

    @property
    def noise(self) -> NoiseSchedule:
        return self.report.parameters.noise.schedule()

    @cached_property
    def curves(self) -> list[SwitchCurve]:
        return switch_curves(self.curve_table, self.noise)

    @property
    def roles(self) -> list[str]:
        """Of what stands against the switches of any curve."""
        return list(dict.fromkeys(role for curve in self.curves for role in curve.roles))

    def savings(self, findings: Findings) -> list[Saving]:
        """Of exit schedules, where there are any."""
        ase = self.report.parameters.ase
        return savings(findings, ase.backbone) if ase else []

    def loss_gap_of(self, curve: SwitchCurve) -> Mapping[str, Any]:
        return next(s for s in self.loss_gap_switches if (s["solver"], s["steps"]) == (curve.solver, curve.steps))

    def excess(self, curve: SwitchCurve) -> list[float]:
        """The excess error of every switch of the curve."""
        own = self.loss_gap[(self.loss_gap["solver"] == curve.solver) & (self.loss_gap["steps"] == curve.steps)]
        after = own.set_index("evaluation")["excess"]
        return [0.0, *(float(after[k - 1]) for k in curve.ks[1:])]


def draw_answer_figures(findings: Findings, data: AnswerData) -> dict[str, str]:
    """Every figure that the report has not, as SVG by name."""
    report = data.report
    pick = findings.pick.plan.name
    shown = dict.fromkeys([findings.baseline.name, pick, findings.shallow.plan.name])
    samples = {"real, held out": report.held_out.images, **{name: report.sample_grids[name] for name in shown}}
    floor = findings.floor if findings.floor_compares else None
    return {
        "curves": curves_figure(data.curves, controls(data.curve_table), floor),
        "loss_gap": loss_gap_figure(
            data.curves, [data.excess(curve) for curve in data.curves], report.parameters.loss_gap.tolerance
        ),
        "samples": samples_figure(samples),
    }


def render_answer(findings: Findings, data: AnswerData) -> str:
    """The page; its figures stand in the folder `figures` beside it.

    Raises InputError where the curves were measured with other networks, guidance, reference or number of images.
    """
    report = data.report
    _require_same_networks(findings, data)
    suggested = suggested_switches(report.change_points, report.exit_table, data.noise)
    taken = [name for name, seconds in data.training_seconds.items() if seconds is None]
    record = findings.baseline.record
    return render(
        "answer.md.j2",
        headline=headline(findings),
        reasons=reasons(findings),
        experiment=data.experiment,
        packs=[report.train, report.held_out],
        command=run_command(report.environment, report.runtime_params),
        git=report.git,
        record=record,
        reference=reference_said(record),
        floor_images=floor_images(findings),
        why_seconds_differ=why_seconds_differ(timed_batches(findings, report.timings["by_batch"]), findings),
        claims=_claims(findings, data, suggested),
        networks=[_network_row(name, network, data) for name, network in data.networks.items()],
        training_commands=training_commands(report, data.networks, taken),
        baseline=findings.baseline.name,
        baseline_fid=record_text(record),
        floor=spread_text(findings.floor.mean, findings.floor.spread),
        floor_ratio=findings.floor_ratio,
        shallow=findings.shallow.plan.name,
        shallow_fid=record_text(findings.shallow.plan.record),
        shallow_difference=change_text(findings.shallow.difference),
        exits_said=exits(exit_summary(report.exit_table, full_depth(report.parameters))),
        suggested=suggested,
        curves=[_curve_rows(curve, data.roles) for curve in data.curves],
        history=report.parameters.switch_curves.history,
        rivals=[rival_name(role) for role in data.roles],
        agreement=_agreement(data, suggested),
        tolerance=percent(report.parameters.loss_gap.tolerance),
        correlations=[(_named(c), c.rank_correlation(data.excess(c))) for c in data.curves],
        against_adaptive=[_adaptive_row(one) for one in against_adaptive(findings, data.curves)],
        savings=saving_rows(data.savings(findings), _difference),
        exit_controls=[
            (plan.name, control.what, percent(control.comparison.cost_ratio), _difference(control.comparison))
            for plan in findings.exit_schedules
            for control in findings.controls[plan.name]
        ],
        exit_speeds=exit_speeds(findings, full_depth(report.parameters)),
        speeds=[_speed_row(plan, findings.baseline) for plan in findings.plans[1:]],
        prices=price_rows(findings, report.parameters.ase, data.training_seconds),
    )


def _require_same_networks(findings: Findings, data: AnswerData) -> None:
    parameters, record = data.report.parameters, findings.baseline.record
    ends = {"shallow": parameters.everywhere[0], "deep": parameters.everywhere[-1]}
    middle = {"middle": parameters.evaluation.middle} if parameters.evaluation.middle else {}
    names = {**ends, **middle, **{name: name for name in parameters.first_stage}}
    networks = {role: data.networks[name].sha256 for role, name in names.items()}
    scale = parameters.sampling.guidance_by(names.values())
    guidance = {role: scale[name] for role, name in names.items()}
    now = measured_with(networks, record.reference_sha256, record.n_generated, guidance)
    if set(data.curve_table["measured_with"]) != {now}:
        raise InputError(
            "switch_curves was measured with other networks or guidance, another reference or another number of images "
            "than the records: run the pipeline switch_curves again"
        )


def _claims(findings: Findings, data: AnswerData, suggested: Sequence[SwitchRange]) -> list[tuple[str, str]]:
    """Each claim of the papers with what was found."""
    found = [s for s in suggested if s.edge is not None]
    transition = f"at {listed(s.label for s in found)}" if found else "at no threshold"
    claims = [("Exits change at one switch (phase transition)", f"Found {transition} of {len(suggested)} tried.")]
    for curve in data.curves:
        low, high = curve.free
        free = f"No switch up to k = {low} is credibly worse" if low else "The first switch is credibly worse already"
        beyond = f"; beyond k = {high} every one is" if high < len(curve.grid) else ""
        claims.append((f"A shallow start costs no quality, {_named(curve)}", f"{free}{beyond}."))
        for role in curve.roles:
            if said := _tally(curve, role):
                claims.append((f"DuoDiff against {rival_name(role)}, {_named(curve)}", said))
    return [*claims, *((CLAIM, claim(found)) for found in [data.savings(findings)] if found)]


def _tally(curve: SwitchCurve, role: str) -> str:
    """Of the switches that a rival reaches, how many stand how; empty where it reaches none."""
    own = {k: rival for k, rival in curve.against(role).items() if k in curve.ks[1:-1]}
    words: dict[Standing, str] = {"better": "better", "worse": "worse", "indistinguishable": "undecided"}
    parts = []
    for which, word in words.items():
        ks = [k for k, rival in own.items() if rival.standing == which]
        if ks:
            parts.append(f"{word} at {len(ks)} (k = {_spans(ks)})")
    return f"Of {len(own)} measured: {', '.join(parts)}." if own else ""


def _spans(ks: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1 to 3, 7"."""
    spans: list[list[int]] = []
    for k in ks:
        if spans and k == spans[-1][-1] + 1:
            spans[-1].append(k)
        else:
            spans.append([k])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _network_row(name: str, network: StoredNetwork, data: AnswerData) -> dict[str, str]:
    header = network.header
    curve = data.report.training_curves[name]
    return {
        "name": name.replace("_", " "),
        "what": _what(network),
        "parameters": f"{network.parameters / 1e6:.3g} M",
        "gmacs": number(network.module.macs / 1e9) if isinstance(network.module, TransformerBackbone) else "",
        "steps": f"{header.step:,}",
        "training": number(curve["training_gmacs"]),
        "minutes": "unknown" if (seconds := data.training_seconds[name]) is None else number(seconds / 60),
        "stored_as": header.stored_as,
        "sha256": network.sha256,
    }


def _what(network: StoredNetwork) -> str:
    shape = network.header.architecture
    match network.module:
        case TransformerBackbone():
            stack = f"{counted(shape['depth'], 'block')}, {shape['width']} wide, patch {shape['patch']}"
            stack += ", a DiT" if network.header.kind == "dit" else ""
            exits = network.header.exit_schedule
            return f"{stack}, fine-tuned for {', '.join(map(str, exits['depths']))} of them" if exits else stack
        case EarlyExits():
            return f"a head and a probe for each of {shape['depth']} blocks"
        case _:
            return f"a fine-tuned copy, and a probe for each of {shape['depth']} blocks"


def _curve_rows(curve: SwitchCurve, roles: Sequence[str]) -> dict[str, Any]:
    """A line a switch; controls as FID of the switch minus theirs."""
    most = curve.points[0].gmacs
    rows = []
    for point, rivals in zip(curve.points, curve.rivals, strict=True):
        by_role = {rival.role: rival for rival in rivals} if 0 < point.k < len(curve.grid) else {}
        against = curve.against_deep(point.k)
        rows.append(
            {
                "k": point.k,
                "cost": percent(point.gmacs / most),
                "fid": _value(point.fid.value, point.fid.low, point.fid.high),
                "against_deep": "" if point.k == 0 else _marked(change_text(against), standing(against)),
                "rivals": [
                    _marked(change_text(by_role[role].difference), by_role[role].standing) if role in by_role else ""
                    for role in roles
                ],
            }
        )
    return {"name": _named(curve), "rows": rows}


def _agreement(data: AnswerData, suggested: Sequence[SwitchRange]) -> dict[str, Any]:
    """Where each method would switch, as k on every curve's grid; bold where its range meets that of free switches."""
    rows: list[tuple[str, list[str]]] = []
    for switch in suggested:
        if switch.edge is None or switch.low is None or switch.high is None:
            rows.append((f"exit statistics, {switch.label}", ["none" for _ in data.curves]))
            continue
        edges = (switch.edge, switch.high, switch.low)  # a later switch is an earlier timestep
        cells = []
        for curve in data.curves:
            k, low, high = (sum(n >= edge for n in curve.grid) for edge in edges)
            cells.append(_switch_cell((k, low, high), curve.free))
        rows.append((f"exit statistics, {switch.label}", cells))
    gaps = [data.loss_gap_of(curve) for curve in data.curves]
    cells = [
        _switch_cell((g["k"], g["k_low"], g["k_high"]), curve.free) for g, curve in zip(gaps, data.curves, strict=True)
    ]
    rows.append(("loss gap", cells))
    serve = data.report.parameters.everywhere
    front = data.report.trials[data.report.trials["on_front"]]
    two = front[front["serves"].map(list).map(lambda serves: serves == [serve[0], serve[-1]])]
    searched, history = [], data.report.parameters.switch_curves.history
    for curve in data.curves:
        own = two[(two["solver"] == curve.solver) & (two["steps"] == curve.steps) & (two["history"] == history)]
        searched.append(", ".join(str(k) for k in sorted(set(own["k"].astype(int)))) or "none on the front")
    rows.append(("search, on its front", searched))
    free = [f"{low} to {high}" if low < high else str(low) for low, high in (c.free for c in data.curves)]
    rows.append(("measured: the last switch that is free", free))
    return {"heads": [_named(curve) for curve in data.curves], "rows": rows}


def _switch_cell(switch: tuple[int, int, int], free: tuple[int, int]) -> str:
    """switch: k and its interval."""
    k, low, high = switch
    text = f"{k} ({low} to {high})"
    return f"**{text}**" if low <= free[1] and free[0] <= high else text


def _speed_row(plan: MeasuredPlan, baseline: MeasuredPlan) -> dict[str, str]:
    ratio = baseline.gmacs / plan.gmacs
    return {
        "name": plan.name,
        "macs": f"{ratio:.2f}",
        "measured": speed_up_text(plan),
        "share": percent(plan.speed_up / ratio),
    }


def _adaptive_row(found: AgainstAdaptive) -> list[str]:
    cells = [found.plan.name, number(found.plan.gmacs), f"{number(found.plan.seconds_per_image * 1e3)}"]
    cells.append(record_text(found.plan.record))
    for difference in (found.at_gmacs, found.at_seconds):
        cells.append("" if difference is None else _marked(change_text(difference), standing(difference)))
    return cells


def _named(curve: SwitchCurve) -> str:
    return f"{curve.solver} {curve.steps}"


def _difference(comparison: Comparison) -> str:
    return _marked(change_text(comparison.difference), comparison.standing)


def _marked(text: str, which: Standing) -> str:
    return {"better": f"**{text}**", "worse": f"*{text}*", "indistinguishable": text}[which]


def _value(value: float, low: float, high: float) -> str:
    return f"{number(value)} ({number(low)} to {number(high)})"
