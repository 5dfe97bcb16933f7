"""The comparison of past runs: one self-contained HTML page, the same for the same runs.

Beside it, where the runs are trainings that differ in their seed alone, what holds over them, in Markdown.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import sha256_of_json, whole_file
from ..past_runs import PastRun
from .comparison import FIRST_METRIC, Compared, compared, differing_parameters, metrics, refusals
from .figures_comparison import costs_figure, exits_figure, losses_figure, run_colours
from .template import render
from .training_seeds_section import SEED, seeds_section
from .wording import change_text, counted, number, record_text

COMPARISONS = Path("data", "08_reporting", "comparisons")  # in the project
NOISE = ("noise.kind", "noise.timesteps")  # where they differ, a timestep is not the same noise
LOSS = (*NOISE, "training.predicts", "training.min_snr_gamma")  # where they differ, a loss is another quantity


def write_comparison(folder: Path, runs: Sequence[PastRun]) -> Path:
    """The page of two runs or more, the first being what the others are held against, below `folder`.

    Its name depends on the runs alone. Raises InputError for fewer runs than two.
    """
    if len(runs) < 2:
        named = f"only {runs[0].name} ({runs[0].short_id}) is named" if runs else "none is named"
        raise InputError(f"a comparison needs two runs or more: {named}")
    path = folder / f"{sha256_of_json([run.id for run in runs])[:12]}.html"
    with whole_file(path) as beside:
        beside.write_text(render_comparison(runs))
    claims, claims_path = render_claims(runs), claims_file(path)
    if claims is None:
        claims_path.unlink(missing_ok=True)
    else:
        with whole_file(claims_path) as beside:
            beside.write_text(claims)
    return path


def claims_file(page: Path) -> Path:
    """Where the claims over training seeds lie that belong to a page, if it has any."""
    return page.with_name(f"{page.stem}_training_seeds.md")


def render_claims(runs: Sequence[PastRun]) -> str | None:
    """The claims over training seeds in Markdown; None where the runs have none."""
    labels = _labels(runs)
    section = seeds_section(runs, labels)
    if section is None or section.refusal:
        return None
    own = {label: run for label, run in zip(labels, runs, strict=True) if label not in section.left_out}
    rows = [{**_run_row(run, label), "seed": run.params[SEED]} for label, run in own.items()]
    caveats = _run_caveats(list(own.values()))
    return render("training_seeds.md.j2", section=section, runs=rows, caveats=caveats)


def render_comparison(runs: Sequence[PastRun]) -> str:
    labels = _labels(runs)
    colours = dict(zip(labels, run_colours(len(runs)), strict=True))
    parameters = differing_parameters(runs)
    by_metric = {metric: refusals(runs, metric) for metric in metrics(runs)}
    return render(
        "comparison.html.j2",
        headline=f"{counted(len(runs), 'run')}, {_differ(parameters)}",
        runs=[{**_run_row(run, label), "colour": colours[label]} for run, label in zip(runs, labels, strict=True)],
        parameters=parameters,
        seeds=seeds_section(runs, labels),
        caveats=_caveats(runs, labels, by_metric),
        metrics=[_metric(runs, metric) for metric in by_metric],
        figures=_figures(runs, labels, colours, by_metric.get(FIRST_METRIC, {})),
    )


def _labels(runs: Sequence[PastRun]) -> list[str]:
    """The runs' names, with ids where names repeat."""
    names = [run.name for run in runs]
    return [run.name if names.count(run.name) == 1 else f"{run.name} ({run.short_id})" for run in runs]


def _differ(parameters: Mapping[str, Any]) -> str:
    if not parameters:
        return "the same parameters"
    names = f": {', '.join(parameters)}" if len(parameters) <= 3 else ""
    return f"{counted(len(parameters), 'parameter')} {'differs' if len(parameters) == 1 else 'differ'}{names}"


def _run_row(run: PastRun, label: str) -> dict[str, str]:
    commit = run.tags.get("git_commit", "none")
    changed = ", with changes" if run.tags.get("git_dirty") == "True" else ""
    return {
        "label": label,
        "id": run.short_id,
        "started": f"{run.started:%Y-%m-%d %H:%M} UTC",
        "commit": "no repository" if commit == "none" else f"{commit[:8]}{changed}",
        "environment": run.tags.get("environment", ""),
        "data": run.tags.get("data_sha256", "")[:8],
        "verdict": str(run.recommendation.get("verdict", "")),
        "plan": str(run.recommendation.get("plan", "")),
    }


def _caveats(runs: Sequence[PastRun], labels: Sequence[str], by_metric: Mapping[str, Mapping[int, str]]) -> list[str]:
    found = [
        f"{labels[place]}: {_title(metric)} does not compare with the first run's, since {reason}."
        for metric, own in by_metric.items()
        for place, reason in own.items()
    ]
    return found + _run_caveats(runs)


def _run_caveats(runs: Sequence[PastRun]) -> list[str]:
    """Of the code that made the runs, and of their records."""
    found = []
    code = {run.tags.get("git_commit") for run in runs}
    if len(code) > 1:
        found.append("The runs were made by different code: what differs may come from there.")
    if "True" in {run.tags.get("git_dirty") for run in runs} or "none" in code:
        found.append("Of some runs the exact code is not recorded: not all of it was committed.")
    warned = dict.fromkeys(warning for run in runs for record in run.records for warning in record.warnings)
    return found + [f"Some records carry a warning: {warning}." for warning in warned]


def _metric(runs: Sequence[PastRun], metric: str) -> dict[str, Any]:
    """A table; plans that only one run has stand apart, since nothing is to compare there."""
    plans = compared(runs, metric)
    rows = [{"plan": plan, "cells": [_cell(one) for one in by_run]} for plan, by_run in plans.items()]
    alone = [sum(one.record is not None for one in by_run) == 1 for by_run in plans.values()]
    return {
        "title": _title(metric),
        "shared": [row for row, single in zip(rows, alone, strict=True) if not single],
        "alone": [row for row, single in zip(rows, alone, strict=True) if single],
    }


def _cell(one: Compared) -> dict[str, str]:
    if one.record is None:
        return {"value": "", "cost": "", "difference": "", "standing": "", "said": ""}
    difference, said = "", one.refusal
    if one.difference is not None:
        difference = change_text(one.difference)
        said = "paired" if "unpaired" not in one.difference.method else "unpaired"
        if one.difference.low == one.difference.high == 0:
            difference, said = "the same", "in every block"
    return {
        "value": record_text(one.record),
        "cost": f"{number(one.record.gmacs)} GMACs",
        "difference": difference,
        "standing": one.standing,
        "said": said,
    }


def _title(metric: str) -> str:
    first, *others = metric.split("_")
    return " ".join([first.upper() if len(first) <= 3 else first.capitalize(), *others])


def _figures(
    runs: Sequence[PastRun], labels: Sequence[str], colours: Mapping[str, str], fid_refusals: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Title, SVG (None where no run has anything to show), caption, and which runs are left out, and why."""
    costs = _shown(runs, labels, lambda place, run: fid_refusals.get(place, ""))
    exits = _shown(runs, labels, lambda _, run: _no_exits(run) or _differs(runs, run, NOISE))
    losses = _shown(runs, labels, lambda _, run: _differs(runs, run, LOSS) if run.losses else "it tracked no training")
    recommended = {label: str(run.recommendation.get("plan")) for label, run in costs.runs.items()}
    fids = {label: [r for r in run.records if r.name == FIRST_METRIC] for label, run in costs.runs.items()}
    depths = {label: _exits(run) for label, run in exits.runs.items()}
    curves = {label: run.losses for label, run in losses.runs.items()}
    wider = "Where curves coincide, that of the earlier run is wider"
    return [
        {
            "title": "FID against cost",
            "svg": costs_figure(fids, recommended, colours),
            "caption": "Down and to the left is better. Bars are 95% intervals; a ring marks what a run recommends. "
            "Where plans coincide, that of the earlier run is larger.",
            "left_out": costs.left_out,
        },
        {
            "title": "Exit depth",
            "svg": exits_figure(depths, colours) if depths else None,
            "caption": "Mean exit depth of the adaptive denoiser over images, a panel for each "
            f"uncertainty threshold u. {wider}.",
            "left_out": exits.left_out,
        },
        {
            "title": "Training loss",
            "svg": losses_figure(curves, colours) if any(curves.values()) else None,
            "caption": f"Mean loss between two points. {wider}: a network that runs share is trained once.",
            "left_out": losses.left_out,
        },
    ]


class _Shown:
    """runs: by label, those that belong into one figure; left_out: the reasons of the others, by label."""

    def __init__(self) -> None:
        self.runs: dict[str, PastRun] = {}
        self.left_out: dict[str, str] = {}


def _shown(runs: Sequence[PastRun], labels: Sequence[str], why_not: Callable[[int, PastRun], str]) -> _Shown:
    shown = _Shown()
    for place, (label, run) in enumerate(zip(labels, runs, strict=True)):
        if reason := why_not(place, run):
            shown.left_out[label] = reason
        else:
            shown.runs[label] = run
    return shown


def _differs(runs: Sequence[PastRun], run: PastRun, keys: Sequence[str]) -> str:
    different = [key for key in keys if run.params.get(key) != runs[0].params.get(key)]
    return f"{', '.join(different)} differ from the first run's" if different else ""


def _no_exits(run: PastRun) -> str:
    if run.exits is None:
        return "it kept no exit table"
    return "" if run.params else "its parameters were not recorded"


def _exits(run: PastRun) -> tuple[Any, int]:
    return run.exits, int(run.params[f"backbones.{run.params['early_exit.backbone']}.depth"])
