"""What exit schedules (ASE) save by the clock, at which FID, and whether that is what the paper claims.

Source of the claim: Moon et al., ICML 2024, arXiv 2408.05927: 25 to 30 % less time at comparable FID, by any solver.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import InputError
from ..metrics.intervals import Interval, block_interval, paired_difference
from .findings import ClaimVerdict, Comparison, Findings, compare
from .measured import MeasuredPlan
from .wording import MINUS, difference_text, listed, percent

CLAIM = "Exit schedules (ASE) take 25 to 30 % less time at comparable FID, with any solver"
LEAST_SAVED = 0.25  # of the seconds
COMPARABLE = 0.1  # most that FID may rise, as a share of the whole network's, for the claim to hold
ExitVerdict = Literal[ClaimVerdict, "not tested"]


@dataclass(frozen=True)
class Saving:
    """An exit schedule against the whole network with the same solver and steps.

    seconds: share of them that it saves, over rounds at the largest batch that was timed, in which both took turns;
    comparison: of FID and KID, exit schedule minus whole; at_adaptive: FID of AdaDiff at its cost, minus its own,
    between the thresholds around that cost, block by block, the whole network being the threshold 0; None where no
    threshold is as cheap.
    """

    seconds: Interval
    comparison: Comparison
    at_adaptive: Interval | None

    @property
    def plan(self) -> MeasuredPlan:
        return self.comparison.plan

    @property
    def whole(self) -> MeasuredPlan:
        return self.comparison.other

    @property
    def gmacs(self) -> float:
        """Share of the multiply-accumulates that it saves."""
        return 1 - self.comparison.cost_ratio

    @property
    def verdict(self) -> ExitVerdict:
        """On the paper's claim. FID is comparable where all of the interval lies within the margin, and not where all
        of it lies beyond; a schedule that leaves out less work than the claim asks for can contradict it, and no more.
        """
        margin, fid = COMPARABLE * self.whole.fid, self.comparison.difference
        if fid.low > margin:
            return "contradicted"
        if self.gmacs < LEAST_SAVED:
            return "not tested"
        if self.seconds.high < LEAST_SAVED:
            return "contradicted"
        return "holds" if fid.high <= margin and self.seconds.low >= LEAST_SAVED else "open"


def savings(findings: Findings, backbone: str, by_batch: Sequence[Mapping[str, Any]]) -> list[Saving]:
    """One for every exit schedule; backbone: the whole network; by_batch: of the timings.

    Raises InputError where the whole network was not evaluated, or either not timed.
    """
    timed = max(by_batch, key=lambda batch: batch["images"])["plans"]
    found = []
    for plan in findings.exit_schedules:
        whole = whole_network_of(plan, findings, backbone)
        if missing := [one.name for one in (plan, whole) if one.name not in timed]:
            raise InputError(f"timings: {missing[0]} was not timed: run the pipeline evaluation again")
        rounds = [timed[one.name]["rounds"] for one in (plan, whole)]
        shares = [1 - own / all_ for own, all_ in zip(*rounds, strict=True)]
        comparison = compare(plan, whole)
        found.append(Saving(block_interval(shares), comparison, _at_adaptive(comparison, findings)))
    return found


def _at_adaptive(comparison: Comparison, findings: Findings) -> Interval | None:
    plan, whole = comparison.plan, comparison.other
    early = [p for p in findings.adaptive if p.solver == plan.solver.alone and p.gmacs < whole.gmacs]
    along = sorted((*early, whole), key=lambda p: p.gmacs)
    costs = [p.gmacs for p in along]
    if plan.gmacs < costs[0] or not early:
        return None
    blocks = np.array([p.fid_blocks for p in along])
    return paired_difference([float(np.interp(plan.gmacs, costs, own)) for own in blocks.T], plan.fid_blocks)


def whole_network_of(plan: MeasuredPlan, findings: Findings, backbone: str) -> MeasuredPlan:
    """The evaluated plan in which all blocks run, with the same solver and steps.

    Raises InputError where there is none: evaluation adds one to each, but the backbone may have been changed since.
    """
    solver = plan.solver.alone
    for other in findings.plans:
        if other.serves == (backbone,) and other.solver == solver and other.exit_threshold is None:
            return other
    raise InputError(
        f"evaluated_plans: none is {backbone} alone by {solver.label} {solver.steps}, against which {plan.name} "
        "stands: run the pipeline evaluation again"
    )


def claim(found: Sequence[Saving]) -> str:
    """What was found of the paper's claim, over the solvers of the schedule that the network was trained for."""
    trained = [saving for saving in found if not saving.plan.note]
    verdicts = {saving.verdict for saving in trained}
    if "contradicted" in verdicts:
        against = listed(_solver(saving) for saving in trained if saving.verdict == "contradicted")
        answer = f"Contradicted with {against}"
    elif "not tested" in verdicts:
        answer = f"Not tested, for the schedule leaves out less than {LEAST_SAVED:.0%} of the work"
    else:
        answer = "Stays open" if "open" in verdicts else "Holds"
    return f"{answer}. {' '.join(_said(saving) for saving in trained)}"


def _said(saving: Saving) -> str:
    return (
        f"{_solver(saving)}: {time_text(saving.seconds)} less time for {percent(saving.gmacs)} less work, "
        f"FID {difference_text(saving.comparison.difference)}."
    )


def _solver(saving: Saving) -> str:
    return f"{saving.plan.solver.label} {saving.plan.solver.steps}"


def time_text(seconds: Interval) -> str:
    """A share and its interval: 19% (17% to 21%)."""
    shares = (seconds.value, seconds.low, seconds.high)
    value, low, high = (f"{share:.0%}".replace("-", MINUS) for share in shares)
    return f"{value} ({low} to {high})"


def saving_rows(found: Sequence[Saving], difference: Callable[[Comparison], str]) -> list[dict[str, str]]:
    """Rows of a table; difference: how a page words one, from a `Comparison`."""
    return [
        {
            "name": saving.plan.name,
            "runs": saving.plan.runs,
            "note": saving.plan.note,
            "gmacs": percent(saving.gmacs),
            "seconds": time_text(saving.seconds),
            "difference": difference(saving.comparison),
            "standing": saving.comparison.standing,
            "whole": saving.whole.name,
            "verdict": "" if saving.plan.note else saving.verdict,
        }
        for saving in found
    ]
