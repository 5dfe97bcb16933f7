"""What must be known before trusting the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.intervals import CONFIDENCE
from .findings import Findings
from .measured import MEMORISATION, MeasuredPlan
from .wording import difference_text, number, percent, sentence

LOW_ACCURACY = 0.9
# The project asks of a deep network worth speeding up that it comes this near to real images.
FAR_FROM_FLOOR = 5


def caveats(findings: Findings, held_out_accuracy: float | None) -> list[str]:
    """What must be known before trusting the numbers; empty where nothing is wrong."""
    records = [record for plan in findings.plans for record in plan.records.values()]
    warned = dict.fromkeys(warning for record in records for warning in record.warnings)
    found = [sentence(warning) + "." for warning in warned]
    if not findings.floor_compares:
        n = findings.baseline.record.n_generated
        found.append(f"The floor was measured with {findings.floor.n_images} images, the FIDs with {n}: no comparison.")
    elif findings.floor_ratio is not None and findings.floor_ratio > FAR_FROM_FLOOR:
        far = f"The baseline is {number(findings.floor_ratio)} times the floor"
        found.append(f"{far}: it is not trained to its end, and a better one may ask for another switch.")
    if held_out_accuracy is not None and held_out_accuracy < LOW_ACCURACY:
        right = f"is right on only {percent(held_out_accuracy)} of the held-out images"
        found.append(f"The feature extractor {right}: its distances say little.")
    if findings.shallow.standing != "worse":
        found.append("The deep network is not credibly better than the shallow one: there is nothing to switch for.")
    if not findings.duodiffs:
        found.append("The search found no schedule in which more than one network serves.")
    if findings.pick.standing == "indistinguishable" and findings.verdict != "stay with deep":
        worst = f"may still cost up to {findings.pick.difference.high:.2g} FID"
        found.append(f"Not credibly worse is not equal: at {CONFIDENCE:.0%} confidence the recommendation {worst}.")
    pick = findings.pick
    if pick.kid_standing == "worse" and pick.standing != "worse":
        by_kid = f"{pick.plan.name} is credibly worse than {pick.other.name}, {difference_text(pick.kid_difference)}"
        found.append(f"KID contradicts FID: by KID {by_kid}.")
    memorising = [plan for plan in findings.plans if plan.memorises]
    if memorising:
        found.append(_memorising(memorising, len(findings.plans)))
    plan = findings.pick.plan
    if plan is not findings.baseline and plan.speed_up_low <= 1:
        clock = (
            f"{plan.speed_up:.2f} times as fast ({plan.speed_up_low:.2f} to {plan.speed_up_high:.2f} over the blocks)"
        )
        found.append(f"The saving does not show by the clock: measured, the recommendation is {clock}.")
    return list(dict.fromkeys(found))


def decoding(autoencoder: Mapping[str, Any], findings: Findings) -> str:
    """What costs, speed-ups and seconds leave out where networks learn from latents."""
    gmacs, of_deep = autoencoder["decoding_gmacs"], autoencoder["decoding_gmacs"] / findings.baseline.gmacs
    return (
        f"Costs, seconds and speed-ups are of sampling latents. Decoding an image takes {number(gmacs)} GMACs more, "
        f"whoever serves: {percent(of_deep)} of what the baseline takes to sample it, by which every saving is smaller."
    )


def _memorising(plans: Sequence[MeasuredPlan], of: int) -> str:
    """What speaks for copies, with the plan that shows most of them."""
    most, metric = max(
        ((plan, metric) for plan in plans for metric in MEMORISATION),
        key=lambda found: found[0].records[found[1]].interval_low,
    )
    record = most.records[metric]
    seen = metric.removeprefix("memorisation_")
    nearer = (
        f"{percent(record.value)} of the images of {most.name} in {seen}, {percent(record.expected or 0)} by chance"
    )
    who = f"{len(plans)} of {of} plans draw images credibly nearer to training than to held-out ones"
    return f"Copies: {who} (most: {nearer}). FID and KID reward that."
