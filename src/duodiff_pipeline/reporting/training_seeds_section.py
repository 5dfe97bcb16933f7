"""Claims over training seeds as they are shown, in the comparison page and in Markdown: which runs, and the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import Noise
from ..metrics.intervals import CONFIDENCE, MIN_TRAININGS, Interval
from ..past_runs import PastRun
from .comparison import FIRST_METRIC, differing_parameters
from .curves import switch_curves
from .findings import standing
from .training_seeds import Claim, CurveClaims, Training, claims_over_trainings
from .wording import change_text, counted, listed

SEED = "seed"  # the parameter


@dataclass(frozen=True)
class SeedsSection:
    """left_out: by label, why the claims are not of a run; refusal: why there are none.

    seeds: of the runs that they are of; about: sentences; curves: a table each.
    """

    left_out: Mapping[str, str]
    refusal: str = ""
    seeds: Sequence[int] = ()
    about: Sequence[str] = ()
    curves: Sequence[Mapping[str, Any]] = ()


def seeds_section(runs: Sequence[PastRun], labels: Sequence[str]) -> SeedsSection | None:
    """What at least 3 runs say that differ in nothing but their training seed; None of other runs."""
    if len(runs) < MIN_TRAININGS or set(differing_parameters(runs)) != {SEED}:
        return None
    left_out = {
        label: "it kept no curves of its switches"
        for label, run in zip(labels, runs, strict=True)
        if run.curves is None or run.suggested is None
    }
    own = [run for label, run in zip(labels, runs, strict=True) if label not in left_out]
    try:
        trainings = [_training(run) for run in own]
        claims, images = claims_over_trainings(trainings), _images(own)
    except ValueError as error:
        return SeedsSection(left_out, refusal=str(error))
    seeds = [training.seed for training in trainings]
    blocks = len(trainings[0].curves[0].points[0].blocks)
    return SeedsSection(
        left_out=left_out,
        seeds=seeds,
        about=_about(own, seeds, blocks, images),
        curves=[_table(of_curve, seeds) for of_curve in claims],
    )


def _training(run: PastRun) -> Training:
    noise = Noise.model_validate({key: run.params[f"noise.{key}"] for key in Noise.model_fields})
    assert run.curves is not None
    assert run.suggested is not None
    suggested = {(found["solver"], found["steps"]): found["k"] for found in run.suggested}
    return Training(int(run.params[SEED]), switch_curves(run.curves, noise.schedule()), suggested)


def _images(runs: Sequence[PastRun]) -> int:
    """Generated in each block; raises ValueError where the runs were not measured alike."""
    records = [record for run in runs for record in run.records if record.name == FIRST_METRIC]
    counts = {record.n_generated for record in records}
    if len({(record.extractor_sha256, record.reference_sha256) for record in records}) != 1:
        raise ValueError("the runs have not the same extractor and reference, and each gives FID a scale of its own")
    if len(counts) != 1:
        raise ValueError(f"the runs generated {listed(sorted(counts))} images a block, and FID depends on their number")
    return counts.pop()


def _about(runs: Sequence[PastRun], seeds: Sequence[int], blocks: int, images: int) -> list[str]:
    same = _not_trained(runs[0])
    of_files = f" Not trained anew, and so the same throughout: {listed(same)}." if same else ""
    return [
        f"Of {counted(len(runs), 'training')}, with the seeds {listed(seeds)}; each was measured in {blocks} seed "
        f"blocks of {counted(images, 'generated image')}. A difference is the FID of what is named first minus that of "
        f"what it is held against, with its {CONFIDENCE:.0%} interval: in one training paired over the seed blocks, "
        f"over trainings Student's t with the trainings as the sample (n = {len(runs)}).{of_files}",
        "A claim holds where the whole interval over trainings lies on its side of 0, is contradicted where it lies "
        "on the other, and is open otherwise, which is no proof of equality. Each claim stands for itself: of twenty, "
        "one can be expected to miss. All trainings were sampled from the same noise: what other noise would give is "
        "in the intervals of the single trainings alone.",
    ]


def _not_trained(run: PastRun) -> list[str]:
    """Backbones that come from files or checkpoints, whatever the seed."""
    taken = (key.split(".") for key, value in run.params.items() if value != "None")
    parts = [(key[1], key[2]) for key in taken if key[0] == "backbones" and len(key) > 2]
    return list(dict.fromkeys(name for name, part in parts if part in ("file", "from_checkpoint")))


def _table(of_curve: CurveClaims, seeds: Sequence[int]) -> dict[str, Any]:
    return {
        "title": f"{of_curve.solver}, {of_curve.steps} steps",
        "suggested": f"The loss gap suggests k = {listed(of_curve.suggested)} with the seeds {listed(seeds)}.",
        "rows": [_row(claim) for claim in of_curve.claims],
        "missing": f"Left out at the suggested switch: {'; '.join(of_curve.missing)}." if of_curve.missing else "",
    }


def _row(claim: Claim) -> dict[str, Any]:
    return {
        "claim": f"{claim.plan} {claim.expected} than {claim.other}",
        "at": claim.at,
        "cells": [_cell(difference) for difference in (*claim.differences, claim.over_trainings)],
        "verdict": claim.verdict,
    }


def _cell(difference: Interval) -> dict[str, str]:
    same = difference.low == difference.high == 0
    return {
        "difference": "the same" if same else change_text(difference),
        "standing": "" if same else standing(difference),
    }
