"""The answer in Markdown, for a repository's documents: what was measured, and what holds of the papers' claims."""

from collections.abc import Sequence
from typing import Any

from ..analysis.exit_statistics import exit_summary
from ..metrics.intervals import Interval
from ..networks.early_exit import EarlyExits
from ..networks.files import StoredNetwork
from ..networks.transformer import TransformerBackbone
from .adaptive import AgainstAdaptive, against_adaptive, exit_shares, exit_speeds, exits
from .agreement import agreement, loss_gap_excess
from .curves import SwitchCurve, controls, rival_name
from .exit_schedules import CLAIM, Saving, claim, saving_rows
from .figures_curves import curves_figure, loss_gap_figure, samples_figure
from .findings import Comparison, Findings, Standing, standing
from .measured import MeasuredPlan
from .page import full_depth, run_command, saved_by_exits
from .prices import price_rows
from .report_data import ReportData
from .seconds import timed_batches, why_seconds_differ
from .statements import floor_images, headline, reasons, reference_said
from .template import render
from .training_commands import training_commands
from .wording import change_text, counted, listed, number, percent, record_text, speed_up_text, spread_text


def draw_answer_figures(findings: Findings, data: ReportData) -> dict[str, str]:
    """Every figure that the report has not, as SVG by name."""
    pick = findings.pick.plan.name
    shown = dict.fromkeys([findings.baseline.name, pick, findings.shallow.plan.name])
    samples = {"real, held out": data.held_out.images, **{name: data.sample_grids[name] for name in shown}}
    floor = findings.floor if findings.floor_compares else None
    return {
        "curves": curves_figure(data.curves, controls(data.curve_table), floor),
        "loss_gap": loss_gap_figure(
            data.curves, [loss_gap_excess(data, curve) for curve in data.curves], data.parameters.loss_gap.tolerance
        ),
        "samples": samples_figure(samples),
    }


def render_answer(findings: Findings, data: ReportData) -> str:
    """The page; its figures stand in the folder `figures` beside it."""
    taken = [name for name, seconds in data.training_seconds.items() if seconds is None]
    record = findings.baseline.record
    roles = list(dict.fromkeys(role for curve in data.curves for role in curve.roles))
    saved = saved_by_exits(findings, data)
    return render(
        "answer.md.j2",
        headline=headline(findings),
        reasons=reasons(findings),
        experiment=data.experiment,
        packs=[data.train, data.held_out],
        command=run_command(data.environment, data.runtime_params),
        git=data.git,
        record=record,
        reference=reference_said(record),
        floor_images=floor_images(findings),
        why_seconds_differ=why_seconds_differ(timed_batches(findings, data.timings["by_batch"]), findings),
        claims=_claims(findings, data, saved),
        networks=[_network_row(name, network, data) for name, network in data.networks.items()],
        training_commands=training_commands(data, data.networks, taken),
        baseline=findings.baseline.name,
        baseline_fid=record_text(record),
        floor=spread_text(findings.floor.mean, findings.floor.spread),
        floor_ratio=findings.floor_ratio,
        shallow=findings.shallow.plan.name,
        shallow_fid=record_text(findings.shallow.plan.record),
        shallow_difference=change_text(findings.shallow.difference),
        exits_said=exits(exit_summary(data.exit_table, full_depth(data.parameters))),
        suggested=data.suggested,
        curves=[_curve_rows(curve, roles) for curve in data.curves],
        history=data.parameters.switch_curves.history,
        rivals=[rival_name(role) for role in roles],
        agreement=agreement(data),
        tolerance=percent(data.parameters.loss_gap.tolerance),
        correlations=[(c.name, c.rank_correlation(loss_gap_excess(data, c))) for c in data.curves],
        against_adaptive=[_adaptive_row(one) for one in against_adaptive(findings, data.curves)],
        savings=saving_rows(saved, _difference),
        exit_controls=[row for saving in saved for row in _exit_control_rows(saving, findings)],
        exit_speeds=exit_speeds(findings, full_depth(data.parameters)),
        speeds=[_speed_row(plan, findings.baseline) for plan in findings.plans[1:]],
        prices=price_rows(findings, data.parameters.ase, data.training_seconds),
    )


def _exit_control_rows(saving: Saving, findings: Findings) -> list[tuple[str, str, str, str]]:
    """Name, rival, the rival's cost as a share of the exit schedule's, and FID of the rival minus its own."""
    name = saving.plan.name
    rows = [
        (name, control.what, percent(control.comparison.cost_ratio), _difference(control.comparison))
        for control in findings.controls[name]
    ]
    if saving.at_adaptive is not None:
        at_cost = (percent(1), _marked_difference(saving.at_adaptive))
        rows.append((name, "AdaDiff between thresholds, at its cost", *at_cost))
    return rows


def _claims(findings: Findings, data: ReportData, saved: Sequence[Saving]) -> list[tuple[str, str]]:
    """Each claim of the papers with what was found."""
    found = [s for s in data.suggested if s.edge is not None]
    transition = f"at {listed(s.label for s in found)}" if found else "at no threshold"
    two_depths, one_change = exit_shares(exit_summary(data.exit_table, full_depth(data.parameters)))
    said = (
        f"A change point {transition} of {len(data.suggested)} thresholds tried; full depth and the plateau hold "
        f"{two_depths} of the evaluations, and {one_change} of images change exactly once."
    )
    claims = [("Exits are bimodal, and change at one switch (phase transition)", said)]
    for curve in data.curves:
        low, high = curve.free
        free = f"No switch up to k = {low} is credibly worse" if low else "The first switch is credibly worse already"
        beyond = f"; beyond k = {high} every one is" if high < len(curve.grid) else ""
        claims.append((f"A shallow start costs no quality, {curve.name}", f"{free}{beyond}."))
        for role in curve.roles:
            if said := _tally(curve, role):
                claims.append((f"DuoDiff against {rival_name(role)}, {curve.name}", said))
    return [*claims, *([(CLAIM, claim(saved))] if saved else [])]


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


def _network_row(name: str, network: StoredNetwork, data: ReportData) -> dict[str, str]:
    header = network.header
    curve = data.training_curves[name]
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
    return {"name": curve.name, "rows": rows}


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


def _difference(comparison: Comparison) -> str:
    return _marked_difference(comparison.difference)


def _marked_difference(difference: Interval) -> str:
    return _marked(change_text(difference), standing(difference))


def _marked(text: str, which: Standing) -> str:
    return {"better": f"**{text}**", "worse": f"*{text}*", "indistinguishable": text}[which]


def _value(value: float, low: float, high: float) -> str:
    return f"{number(value)} ({number(low)} to {number(high)})"
