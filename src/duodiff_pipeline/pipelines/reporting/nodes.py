"""What people read."""

from pathlib import Path
from typing import Any

import pandas as pd

from ... import tracking
from ...config import Noise, validate
from ...metrics.reference import Floor
from ...provenance import git_state, versions
from ...reporting.findings import Findings, weigh
from ...reporting.measured import measured_plans
from ...reporting.report_data import ReportData


def weigh_measurements(
    records: list[dict[str, Any]],
    evaluated: list[dict[str, Any]],
    seed_blocks: pd.DataFrame,
    timings: dict[str, Any],
    floor: dict[str, Any],
) -> Findings:
    """What the evaluation says."""
    plans = measured_plans(records, evaluated, seed_blocks, timings)
    floors = {metric: Floor(tuple(of["values"]), of["n_images"]) for metric, of in floor.items()}
    return weigh(plans, floors.pop("fid"), floors.pop("kid"), floors)


def make_metrics(
    findings: Findings,
    extractor: dict[str, Any],
    change_points: list[dict[str, Any]],
    exit_table: pd.DataFrame,
    noise: Noise,
) -> dict[str, Any]:
    """The numbers to compare between runs; MLflow gets the flat ones."""
    from ...reporting.headline_metrics import flat_metrics, headline_metrics
    from ...reporting.switches import suggested_switches

    suggested = suggested_switches(change_points, exit_table, noise.schedule())
    metrics = headline_metrics(findings, extractor["held_out_accuracy"], suggested)
    tracking.current().log_metrics(flat_metrics(metrics))
    return metrics


def gather_report(
    parameters: dict[str, Any], runtime_params: dict[str, Any], work_folder: Path, **shown: Any
) -> ReportData:
    """What the pages show beside the findings.

    runtime_params: of the command line, nested; shown: the other fields of `ReportData` but for provenance, networks
    and training curves being given as `<name>_network` and `<name>_curve`.
    """
    networks, curves = (
        {name.removesuffix(kind): shown.pop(name) for name in list(shown) if name.endswith(kind)}
        for kind in ("_network", "_curve")
    )
    return ReportData(
        **shown,
        experiment=work_folder.name,
        networks=networks,
        parameters=validate(parameters),
        runtime_params=tracking.flatten(runtime_params),
        training_curves=curves,
        git=git_state(Path.cwd()),
        versions=versions(),
    )


def make_report(findings: Findings, data: ReportData) -> tuple[dict[str, str], str]:
    """The figures, and the HTML page that holds them."""
    from ...reporting.page import draw_figures, render_page

    data.require_curves_of(findings.baseline.record)
    figures = draw_figures(findings, data)
    return figures, render_page(findings, data, figures)


def make_answer(findings: Findings, data: ReportData, report_figures: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The Markdown page and its figures, some of which are the report's."""
    from ...reporting.answer import draw_answer_figures, render_answer

    shared = {name: figure for name, figure in report_figures.items() if name in ("where", "exits", "ase_seconds")}
    return render_answer(findings, data), {**shared, **draw_answer_figures(findings, data)}


def make_summary(findings: Findings, work_folder: Path) -> str:
    """The end of the run on the terminal."""
    from ...reporting.summary import summary

    reporting = work_folder.parents[1] / "08_reporting" / work_folder.name
    client = tracking.current().client
    paths = {
        "report": str(reporting / "report.html"),
        "records": str(reporting / "records.json"),
        "MLflow store": client.tracking_uri if client else "none, this run is not tracked",
    }
    return summary(findings, paths)
