"""The report: one self-contained HTML page, the same for the same inputs."""

import base64
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import matplotlib.image
import yaml
from torch import Tensor

from ..analysis.exit_statistics import exit_summary
from ..config import Parameters
from ..diffusion.noise import NoiseSchedule
from ..diffusion.stages import StageSchedule
from ..images.pixels import grid_hwc
from ..metrics.records import LABEL_ACCURACY
from .adaptive import exit_speeds, exits
from .caveats import caveats, decoding
from .exit_schedules import CLAIM, Saving, claim, saving_rows, savings
from .figures_noise import edges_figure, exit_errors_figure, exit_statistics_figure
from .figures_results import ase_figure, batches_figure, cost_figure, seconds_figure, switch_figure, training_figure
from .figures_switches import where_figure
from .findings import Findings
from .first_screen import answers, named_rightly
from .measured import MeasuredPlan
from .page_rows import batch_row, control_row, difference_shown, exit_row, plan_row, trial_row, trials_said
from .report_data import ReportData
from .seconds import timed_batches, why_seconds_differ
from .statements import floor_images, headline, reasons, reference_said
from .style import ROLES
from .switches import evaluated_switches
from .template import render
from .wording import number, record_text, spread_text

GRID_COLUMNS = 5
# columns of the metrics that are measured where they are asked for
MORE = {
    "fid_infinity": "FID\N{INFINITY}",
    "precision": "precision",
    "recall": "recall",
    LABEL_ACCURACY: "label asked for",
}


def draw_figures(findings: Findings, data: ReportData) -> dict[str, str]:
    """Every figure as SVG, by name."""
    parameters, noise = data.parameters, data.noise
    evaluated = [switch for plan in findings.duodiffs for switch in evaluated_switches(plan, noise)]
    comparable = _trials_compare(findings, data)
    return {
        **_ase_figures(findings, data),
        "where": where_figure(data.curves, data.suggested, data.loss_gap_switches, evaluated, noise),
        "exits": exit_statistics_figure(data.exit_table, full_depth(parameters), data.suggested, evaluated, noise),
        "cost": cost_figure(findings, data.trials if comparable else None),
        "switch": switch_figure(findings, data.trials, parameters.everywhere, comparable),
        "training": training_figure(data.training_curves),
        "edges": edges_figure(data.candidate_edges, data.similarity_curves, evaluated, noise),
        "seconds": seconds_figure(findings),
        "seconds_by_batch": batches_figure(findings, timed_batches(findings, data.timings["by_batch"])),
    }


def _ase_figures(findings: Findings, data: ReportData) -> dict[str, str]:
    """None where there is no exit schedule."""
    figures = {}
    if data.exit_errors is not None:
        figures["exit_errors"] = exit_errors_figure(data.exit_errors, data.parameters.noise.schedule())
    if findings.exit_schedules:
        figures["ase_seconds"] = ase_figure(findings, saved_by_exits(findings, data))
    return figures


def saved_by_exits(findings: Findings, data: ReportData) -> list[Saving]:
    """Of exit schedules, where there are any."""
    ase = data.parameters.ase
    return savings(findings, ase.backbone, data.timings["by_batch"]) if ase else []


def render_page(findings: Findings, data: ReportData, figures: Mapping[str, str]) -> str:
    """The page, with the figures that `draw_figures` made."""
    return render("page.html.j2", **_context(findings, data), figures=figures)


def _context(findings: Findings, data: ReportData) -> dict[str, Any]:
    parameters, noise = data.parameters, data.noise
    exit_rows = exit_summary(data.exit_table, full_depth(parameters))
    saved = saved_by_exits(findings, data)
    batches = timed_batches(findings, data.timings["by_batch"])
    return {
        "headline": headline(findings),
        "reasons": reasons(findings),
        "strip": _strip(findings.pick.plan, findings, noise),
        "answers": answers(findings, parameters, data.suggested, data.extractor),
        "caveats": [
            *([decoding(data.autoencoder, findings)] if data.autoencoder else []),
            *caveats(findings, data.extractor["held_out_accuracy"]),
        ],
        "autoencoder": data.autoencoder,
        "controls": {name: [control_row(control) for control in own] for name, own in findings.controls.items()},
        "comparable": _trials_compare(findings, data),
        "ends": (parameters.everywhere[0], parameters.everywhere[-1]),
        "grids": _grids(findings, data),
        "baseline": findings.baseline.name,
        "exits": [exit_row(row, full_depth(parameters)) for row in exit_rows.to_dict("records")],
        "exits_said": exits(exit_rows),
        "exit_speeds": exit_speeds(findings, full_depth(parameters)),
        "savings": saving_rows(saved, lambda comparison: difference_shown(comparison.difference)),
        "ase_claim": CLAIM,
        "ase_found": claim(saved) if saved else "",
        "batches": [batch_row(batch) for batch in batches],
        "why_seconds_differ": why_seconds_differ(batches, findings),
        "suggested": data.suggested,
        "plans": [plan_row(plan, findings) for plan in findings.plans],
        "front": [
            trial_row(row, findings)
            for row in data.trials[data.trials["on_front"]].sort_values("gmacs").to_dict("records")
        ],
        "trial_count": len(data.trials),
        "trials_said": trials_said(data.trials),
        "floor": findings.floor,
        "floor_text": spread_text(findings.floor.mean, findings.floor.spread),
        "floor_compares": findings.floor_compares,
        "kid_floor_text": spread_text(findings.kid_floor.mean, findings.kid_floor.spread),
        "more": {metric: MORE[metric] for metric in findings.baseline.more_metrics},
        "more_floors": {
            metric: spread_text(floor.mean, floor.spread) for metric, floor in findings.more_floors.items()
        },
        "floor_images": floor_images(findings),
        "reference": reference_said(findings.baseline.record),
        "by_chance": findings.baseline.records["memorisation_pixels"],
        "record": findings.baseline.record,
        "extractor": data.extractor,
        "named_rightly": named_rightly(data.extractor),
        "packs": [data.train, data.held_out],
        "command": run_command(data.environment, data.runtime_params),
        "environment": data.environment,
        "parameters": yaml.safe_dump(parameters.model_dump(mode="json"), sort_keys=False, width=120),
        "multistage": data.multistage_findings,
        "multistage_figure": data.multistage_page[1]["training_cost"] if data.multistage_page else "",
        "git": data.git,
        "versions": data.versions,
    }


def _trials_compare(findings: Findings, data: ReportData) -> bool:
    """Whether the search measured at the n of the records."""
    record = findings.baseline.record
    return (data.parameters.switch_search.images or len(data.held_out)) == record.n_generated


def full_depth(parameters: Parameters) -> int:
    """Blocks of the network that the early exits leave."""
    return parameters.backbones[parameters.early_exit.backbone].depth


def run_command(environment: str, runtime_params: Mapping[str, Any], part: Sequence[str] = ()) -> str:
    """What the experiment is run with again; part: words that choose a part of it."""
    words = ["kedro", "run"]
    if environment != "base":
        words += ["--env", environment]
    words += part
    if runtime_params:
        shown = {key: value if isinstance(value, str) else json.dumps(value) for key, value in runtime_params.items()}
        words += ["--params", ",".join(f"{key}={value}" for key, value in shown.items())]
    return shlex.join(words)


def _strip(plan: MeasuredPlan, findings: Findings, noise: NoiseSchedule) -> list[dict[str, Any]]:
    """One segment for every run of evaluations by one network, noise to data."""
    single = {p.serves[0]: p.role for p in findings.plans if len(p.serves) == 1 and p.role in ("deep", "shallow")}
    served = StageSchedule(plan.edges, plan.serves, noise).assignment(plan.solver.grid(noise))
    return [
        {"count": len(list(run)), "network": network, "colour": ROLES[single.get(network, "control")].colour}
        for network, run in groupby(served)
    ]


def _grids(findings: Findings, data: ReportData) -> list[dict[str, str]]:
    """Real held-out images, then the same seeds and images of every plan but the rest of the front."""
    count = max((len(images) for images in data.sample_grids.values()), default=0)
    real = {
        "name": "real, held out",
        "image": png_uri(data.held_out.images[:count]),
        "fid": "",
        "gmacs": "",
        "colour": "#1f2933",
    }
    shown = [plan for plan in findings.plans if plan.name in data.sample_grids and plan.role != "front"]
    return [real] + [
        {
            "name": plan.name,
            "image": png_uri(data.sample_grids[plan.name]),
            "fid": record_text(plan.record),
            "gmacs": number(plan.gmacs),
            "colour": ROLES[plan.role].colour,
        }
        for plan in shown
    ]


def png_uri(images_u8: Tensor) -> str:
    """Images (N, C, H, W) uint8 as one grid, in a data URI; grey for one channel, colour for three."""
    grid = grid_hwc(images_u8, GRID_COLUMNS).numpy()
    buffer = io.BytesIO()
    # the name of the writing software, which carries its version, stays out
    options: dict[str, Any] = {"format": "png", "metadata": {"Software": None}}
    if grid.shape[2] == 1:
        matplotlib.image.imsave(buffer, grid[:, :, 0], cmap="gray", vmin=0, vmax=255, **options)
    else:
        matplotlib.image.imsave(buffer, grid, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
