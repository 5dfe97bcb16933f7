"""What the measurements say: is a cheaper plan not credibly worse than the deep network, and does it need the switch?

All differences of FID are paired over the same seed blocks, with their Student-t 95 % interval. "Credibly worse" means
that the whole interval lies above 0; one that reaches 0 is no proof of equality, only of not having seen a difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..metrics.intervals import Interval, paired_difference
from ..metrics.reference import Floor
from .measured import MeasuredPlan
from .wording import counted

Standing = Literal["better", "worse", "indistinguishable"]
ClaimVerdict = Literal["holds", "contradicted", "open"]
Verdict = Literal["shallow all the way", "switch", "deep for less", "stay with deep"]

VERDICTS: dict[str, Verdict] = {"shallow": "shallow all the way", "duodiff": "switch", "deep": "deep for less"}
BY_PARTS = ("ase", "multistage")  # roles of one network that serves by its parts
# Steps are whole, so the cost of a control matches its DuoDiff's only about so well.
SAME_COST = 1.05


@dataclass(frozen=True)
class Comparison:
    """difference, kid_difference: FID and KID of `plan` minus those of `other`, over the same blocks."""

    plan: MeasuredPlan
    other: MeasuredPlan
    difference: Interval
    kid_difference: Interval

    @property
    def standing(self) -> Standing:
        """Of `plan`, by FID."""
        return standing(self.difference)

    @property
    def kid_standing(self) -> Standing:
        """Of `plan`, by KID."""
        return standing(self.kid_difference)

    @property
    def cost_ratio(self) -> float:
        return self.plan.gmacs / self.other.gmacs


@dataclass(frozen=True)
class Control:
    """What stands against a DuoDiff, and how: `comparison` is control minus DuoDiff."""

    what: str
    comparison: Comparison


@dataclass(frozen=True)
class Findings:
    """plans: all evaluated, the baseline first; floor, kid_floor, more_floors: of FID, of KID and of further metrics by
    name, as far as they were measured; pick: the recommended plan against
    the baseline; against_deep: every other plan against the baseline; cheaper: those of them that the pick is chosen
    from, cheapest first; controls: of every DuoDiff and of what serves by its parts, by its name; rivals: what undoes
    the pick (`_rivals`).
    """

    plans: tuple[MeasuredPlan, ...]
    floor: Floor
    kid_floor: Floor
    verdict: Verdict
    pick: Comparison
    against_deep: tuple[Comparison, ...]
    cheaper: tuple[Comparison, ...]
    controls: dict[str, tuple[Control, ...]]
    rivals: tuple[Comparison, ...]
    more_floors: Mapping[str, Floor]

    @property
    def baseline(self) -> MeasuredPlan:
        return self.plans[0]

    @property
    def duodiffs(self) -> tuple[MeasuredPlan, ...]:
        return tuple(plan for plan in self.plans if plan.role == "duodiff")

    @property
    def switched_controls(self) -> tuple[MeasuredPlan, ...]:
        """DuoDiffs at the cost of what serves by its parts."""
        return tuple(plan for plan in self.plans if plan.role == "control" and _switches(plan, self.baseline))

    @property
    def exit_schedules(self) -> tuple[MeasuredPlan, ...]:
        """Those of ASE."""
        return tuple(plan for plan in self.plans if plan.role == "ase")

    @property
    def by_parts(self) -> tuple[MeasuredPlan, ...]:
        """Exit schedules and multistage networks."""
        return tuple(plan for plan in self.plans if plan.role in BY_PARTS)

    @property
    def adaptive(self) -> tuple[MeasuredPlan, ...]:
        return tuple(plan for plan in self.plans if plan.exit_threshold is not None)

    @property
    def shallow(self) -> Comparison:
        """The shallow network alone against the baseline."""
        return next(c for c in self.against_deep if c.plan.role == "shallow")

    @property
    def floor_ratio(self) -> float | None:
        """FID of the baseline over the floor; None where the floor was measured at another n."""
        return self.baseline.fid / self.floor.mean if self.floor_compares else None

    @property
    def floor_compares(self) -> bool:
        return self.floor.n_images == self.baseline.record.n_generated


def weigh(
    plans: Sequence[MeasuredPlan], floor: Floor, kid_floor: Floor, more_floors: Mapping[str, Floor] | None = None
) -> Findings:
    """The findings: the pick is the cheapest of the networks alone and the DuoDiffs that is not credibly worse than
    the baseline. plans as `measured_plans` gives them; floor at the n of the records if it is to compare.
    """
    baseline = plans[0]
    against_deep = tuple(compare(plan, baseline) for plan in plans[1:])
    eligible = [c for c in against_deep if c.plan.role in VERDICTS and c.cost_ratio < 1]
    cheaper = tuple(sorted(eligible, key=lambda c: (c.plan.gmacs, c.plan.fid)))
    free = next((c for c in cheaper if c.standing != "worse"), None)
    pick = free or compare(baseline, baseline)
    return Findings(
        plans=tuple(plans),
        floor=floor,
        kid_floor=kid_floor,
        verdict=VERDICTS[free.plan.role] if free else "stay with deep",
        pick=pick,
        against_deep=against_deep,
        cheaper=cheaper,
        controls={plan.name: _controls(plan, plans) for plan in plans if plan.role in ("duodiff", *BY_PARTS)},
        rivals=_rivals(pick.plan, against_deep),
        more_floors=more_floors or {},
    )


def compare(plan: MeasuredPlan, other: MeasuredPlan) -> Comparison:
    fid = paired_difference(plan.fid_blocks, other.fid_blocks)
    return Comparison(plan, other, fid, paired_difference(plan.kid_blocks, other.kid_blocks))


def standing(difference: Interval) -> Standing:
    if difference.low > 0:
        return "worse"
    return "better" if difference.high < 0 else "indistinguishable"


def _controls(duodiff: MeasuredPlan, plans: Sequence[MeasuredPlan]) -> tuple[Control, ...]:
    """The controls of a DuoDiff or of what serves by its parts, found by what they are, for two may share a plan."""
    alone = [p for p in plans if len(p.serves) == 1 and p.exit_threshold is None and _family(p) == _family(duodiff)]
    alone = [p for p in alone if p.role not in ("shallow", *BY_PARTS)]  # the shallow one is at no cost but its own
    last, ks = duodiff.serves[-1], duodiff.solver.switches
    reversed_switches = tuple(ks[-1 - ks.index(k)] for k in reversed(duodiff.switches))
    found = []
    networks = dict.fromkeys(p.serves[0] for p in alone)
    for network in sorted(networks, key=lambda name: name != last):
        nearest = min((p for p in alone if p.serves[0] == network), key=lambda p: abs(p.gmacs - duodiff.gmacs))
        found.append((f"{network} with {counted(nearest.nfe, 'evaluation')}", nearest))
    if duodiff.role in BY_PARTS:
        other = [p for p in plans if p.solver == duodiff.solver and _switches(p, plans[0])]
        found += [(f"DuoDiff, {p.runs}", p) for p in sorted(other, key=lambda p: abs(p.gmacs - duodiff.gmacs))[:1]]
    early = {duodiff.solver.alone, *(() if duodiff.role in BY_PARTS else (plans[0].solver,))}
    for plan in plans:
        if plan is duodiff:
            continue
        if plan.solver == duodiff.solver and plan.serves == duodiff.serves[::-1] and plan.switches == reversed_switches:
            found.append((f"the order reversed, {last} first", plan))
        if plan.exit_threshold is not None and plan.solver in early:
            found.append((f"AdaDiff at u \N{LESS-THAN OR EQUAL TO} {plan.exit_threshold:g}", plan))
    return tuple(Control(what, compare(plan, duodiff)) for what, plan in found)


def _switches(plan: MeasuredPlan, baseline: MeasuredPlan) -> bool:
    """Whether it is a DuoDiff, whatever its role: of several networks, and not in the order reversed."""
    return len(plan.serves) > 1 and plan.role not in BY_PARTS and plan.serves[0] != baseline.serves[0]


def _family(plan: MeasuredPlan) -> tuple[str, float]:
    return plan.solver.name, plan.solver.eta


def _rivals(pick: MeasuredPlan, against_deep: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """What undoes the pick, against it: not credibly worse than the baseline, and either clearly cheaper than the pick
    or, at its cost, credibly better.
    """
    others = [compare(c.plan, pick) for c in against_deep if c.plan is not pick and c.standing != "worse"]
    return tuple(
        c for c in others if c.cost_ratio < 1 / SAME_COST or (c.cost_ratio <= SAME_COST and c.standing == "better")
    )
