"""What the comparison of multistage networks says: FID at equal cost of training and of sampling, and of other edges.

In one training a difference is paired over its seed blocks. A claim holds where that interval lies on its side of 0 in
every training, is contradicted where it lies on the other in every one, and is open otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..config import Multistage, StageNetwork
from ..diffusion.noise import NoiseSchedule
from ..diffusion.solvers import Solver
from ..metrics.intervals import Interval, block_interval, paired_difference
from ..metrics.reference import Floor
from .findings import ClaimVerdict, Standing, standing
from .template import render
from .wording import change_text, counted, listed, number, percent, sentence, spread_text

WITH_EDGES = {"optimal_denoiser": "with edges by optimal denoisers", "searched": "with edges that were searched"}


@dataclass(frozen=True)
class Measured:
    """One network of one training at one checkpoint and number of solver steps.

    gmacs: of sampling an image; training_gmacs: spent up to the checkpoint; blocks: FID in every seed block.
    """

    network: str
    seed: int
    final: bool
    steps: int
    nfe: int
    gmacs: float
    training_gmacs: float
    resident_parameters: int
    blocks: tuple[float, ...]

    @property
    def fid(self) -> Interval:
        return block_interval(self.blocks)


@dataclass(frozen=True)
class Claim:
    """That by FID `plan` is better than `other`; differences: of `plan` minus `other`, a training each."""

    plan: str
    other: str
    at: str
    differences: tuple[Interval, ...]

    @property
    def standings(self) -> tuple[Standing, ...]:
        return tuple(standing(difference) for difference in self.differences)

    @property
    def verdict(self) -> ClaimVerdict:
        if set(self.standings) == {"better"}:
            return "holds"
        return "contradicted" if set(self.standings) == {"worse"} else "open"

    @property
    def sentence(self) -> str:
        said = {
            "holds": f"{self.plan} is better than {self.other}",
            "contradicted": f"{self.plan} is worse than {self.other}",
            "open": f"whether {self.plan} is better than {self.other} stays open",
        }[self.verdict]
        found = "; ".join(change_text(difference) for difference in self.differences)
        trainings = "in the one training" if len(self.differences) == 1 else f"in {len(self.differences)} trainings"
        return f"{sentence(self.at)}, {said} ({trainings} FID {found})."


@dataclass(frozen=True)
class Section:
    """What page and figure show.

    equal_training, equal_sampling, edges: claims; reached: by network, for each training the share of the first
    network's training cost at which it reaches that network's final FID, None where it does not; edge_trials: where
    edges were searched.
    """

    settings: Multistage
    edges: Mapping[str, Sequence[float]]
    noise: NoiseSchedule
    n_images: int
    floor: Floor | None
    measured: Sequence[Measured]
    equal_training: Sequence[Claim]
    equal_sampling: Sequence[Claim]
    other_edges: Sequence[Claim]
    other_encoders: Sequence[Claim]
    reached: Mapping[str, Sequence[float | None]]
    edge_trials: pd.DataFrame | None = None

    @property
    def first(self) -> str:
        return next(iter(self.settings.networks))

    @property
    def claims(self) -> list[Claim]:
        return [*self.equal_training, *self.equal_sampling, *self.other_edges, *self.other_encoders]

    @property
    def sentences(self) -> list[str]:
        reached = [_reached_sentence(name, self.first, shares) for name, shares in self.reached.items()]
        return [*(claim.sentence for claim in self.claims), *reached, *self._of_the_search]

    @property
    def _of_the_search(self) -> list[str]:
        """What claims of searched edges leave out."""
        if self.edge_trials is None:
            return []
        trials, most = self.edge_trials, max(m.training_gmacs for m in self.measured if m.network == self.first)
        last = trials.groupby(trials["edges"].map(tuple))["training_gmacs"].max()
        losing = last.drop(tuple(self.edges[self.settings.searched or ""]))
        return [
            f"The edges of {self.settings.searched} were searched by {counted(len(losing), 'more training')}, given up "
            f"on the way, which cost {percent(losing.sum() / most)} of that of {self.first}: the claims above leave it "
            f"out. Its own training with seed {self.settings.seeds[0]} was chosen for its FID on the way, on other "
            "noise; those of other seeds were not."
        ]


def multistage_section(
    blocks: pd.DataFrame,
    edges: Mapping[str, Sequence[float]],
    settings: Multistage,
    noise: NoiseSchedule,
    n_images: int,
    floor: Floor | None,
    edge_trials: pd.DataFrame | None = None,
) -> Section:
    """What the table of the pipeline multistage says; floor: where it was measured at the same n; edge_trials: of the
    search over edges, where there was one.
    """
    measured = _measured(blocks)
    names, most = list(settings.networks), settings.sampling_steps[-1]
    first, others = names[0], names[1:]
    final = {(m.network, m.seed, m.steps): m for m in measured if m.final}

    def claim(plan: str, other: str, at: str) -> Claim:
        pairs = [(final[plan, seed, most], final[other, seed, most]) for seed in settings.seeds]
        return Claim(plan, other, at, tuple(paired_difference(a.blocks, b.blocks) for a, b in pairs))

    def claim_at_cost(plan: str, steps: int) -> Claim:
        """Against the first network with as many steps as come nearest to the cost."""
        own = [final[plan, seed, steps] for seed in settings.seeds]
        rivals = [
            min((m for m in final.values() if (m.network, m.seed) == (first, seed)), key=_further_from(own[0].gmacs))
            for seed in settings.seeds
        ]
        cost = percent(own[0].gmacs / rivals[0].gmacs)
        at = f"at equal sampling cost ({steps} steps against {rivals[0].steps}, {cost} of their cost)"
        return Claim(
            plan, first, at, tuple(paired_difference(a.blocks, b.blocks) for a, b in zip(own, rivals, strict=True))
        )

    grid = Solver(settings.solver, most).grid(noise)
    stages = {name: [sum(edge > n for edge in edges[name]) for n in grid] for name in others}
    pairs = [(a, b) for a in others for b in others if a != b]
    chosen = [name for name in others if settings.networks[name].edges in WITH_EDGES]
    by_edges = [
        (a, b)
        for a, b in pairs
        if _differ_in(settings.networks[a], settings.networks[b], "edges") and stages[a] != stages[b]
        if b not in chosen or (a in chosen and others.index(a) > others.index(b))  # each two of them once
    ]
    by_encoder = [(a, b) for a, b in pairs if _differ_in(settings.networks[a], settings.networks[b], "shared_encoder")]
    return Section(
        settings=settings,
        edges=edges,
        noise=noise,
        n_images=n_images,
        floor=floor,
        measured=measured,
        equal_training=[claim(name, first, "at equal training cost") for name in others],
        equal_sampling=[claim_at_cost(name, steps) for name in others for steps in settings.sampling_steps],
        other_edges=[
            claim(a, b, WITH_EDGES[by]) for a, b in by_edges if (by := settings.networks[a].edges) in WITH_EDGES
        ],
        other_encoders=[claim(a, b, "with one encoder") for a, b in by_encoder if settings.networks[a].shared_encoder],
        reached={name: [_reached(measured, name, first, seed, most) for seed in settings.seeds] for name in others},
        edge_trials=edge_trials,
    )


def multistage_findings(section: Section) -> dict[str, Any]:
    """What the report shows of it: sentences, and a row a claim."""
    return {"sentences": section.sentences, "claims": [_claim_row(claim) for claim in section.claims]}


def render_multistage(section: Section) -> str:
    """The page in Markdown; its figure stands in the folder `figures` beside it."""
    return render(
        "multistage.md.j2",
        section=section,
        networks=[_network_row(name, section) for name in section.settings.networks],
        training=[
            _training_row(m, section) for m in section.measured if m.steps == section.settings.sampling_steps[-1]
        ],
        sampling=[_sampling_row(m) for m in section.measured if m.final],
        claims=[_claim_row(claim) for claim in section.claims],
        floor=spread_text(section.floor.mean, section.floor.spread) if section.floor else None,
        blocks=len(section.measured[0].blocks),
        edge_trials=[] if section.edge_trials is None else _edge_trial_rows(section.edge_trials),
    )


def _measured(blocks: pd.DataFrame) -> list[Measured]:
    """In the order of the table: by network, training and checkpoint."""
    keys = ["network", "seed", "training_step", "steps"]
    return [
        Measured(
            network=str(own["network"].iloc[0]),
            seed=int(own["seed"].iloc[0]),
            final=bool(own["final"].iloc[0]),
            steps=int(own["steps"].iloc[0]),
            nfe=int(own["nfe"].iloc[0]),
            gmacs=float(own["gmacs"].iloc[0]),
            training_gmacs=float(own["training_gmacs"].iloc[0]),
            resident_parameters=int(own["resident_parameters"].iloc[0]),
            blocks=tuple(own.sort_values("block")["fid"]),
        )
        for _, own in blocks.groupby(keys, sort=False)
    ]


def _differ_in(a: StageNetwork, b: StageNetwork, key: str) -> bool:
    """Whether two networks of several stages differ in this alone."""
    differing = [field for field in StageNetwork.model_fields if getattr(a, field) != getattr(b, field)]
    return differing == [key]


def _further_from(gmacs: float) -> Callable[[Measured], float]:
    """How far the cost of sampling lies from this one."""
    return lambda measured: abs(measured.gmacs - gmacs)


def _reached(measured: Sequence[Measured], name: str, first: str, seed: int, steps: int) -> float | None:
    """Share of the first network's training cost at which the mean FID falls to its final one, between checkpoints.

    At the first checkpoint that is the most it can be.
    """
    own = [m for m in measured if (m.network, m.seed, m.steps) == (name, seed, steps)]
    (goal,) = (m for m in measured if (m.network, m.seed, m.steps, m.final) == (first, seed, steps, True))
    before = None
    for point in own:
        if point.fid.value <= goal.fid.value:
            if before is None:
                cost = point.training_gmacs
            else:
                fids = [point.fid.value, before.fid.value]
                cost = float(np.interp(goal.fid.value, fids, [point.training_gmacs, before.training_gmacs]))
            return cost / goal.training_gmacs
        before = point
    return None


def _reached_sentence(name: str, first: str, shares: Sequence[float | None]) -> str:
    """Of means over blocks, without an interval."""
    reached = [share for share in shares if share is not None]
    if not reached:
        return f"{name} does not reach the final FID of {first} at its training cost, in {_trainings(len(shares))}."
    at = listed(percent(share) for share in reached)
    rest = f", and not in {len(shares) - len(reached)}" if len(reached) < len(shares) else ""
    return (
        f"{name} reaches the final FID of {first} within {at} of its training cost (means over blocks, between "
        f"checkpoints), in {len(reached)} of {_trainings(len(shares))}{rest}."
    )


def _trainings(count: int) -> str:
    return counted(count, "training")


def _network_row(name: str, section: Section) -> dict[str, str]:
    network, edges = section.settings.networks[name], section.edges[name]
    own = next(m for m in section.measured if m.network == name)
    final = [m for m in section.measured if m.network == name and m.final]
    how = network.edges if isinstance(network.edges, str) else "given"
    return {
        "name": name,
        "widths": ", ".join(map(str, network.decoder_widths)),
        "encoder": "one" if network.shared_encoder else "one a stage",
        "edges": f"{how.replace('_', ' ')}: {', '.join(f'{edge:.0f}' for edge in edges)}" if edges else "",
        "parameters": f"{own.resident_parameters / 1e6:.3g} M",
        "evaluation": number(final[-1].gmacs / final[-1].nfe * 1e3),
        "training": number(final[-1].training_gmacs),
    }


def _training_row(measured: Measured, section: Section) -> dict[str, str]:
    most = max(m.training_gmacs for m in section.measured if m.network == section.first)
    return {
        "network": measured.network,
        "seed": str(measured.seed),
        "training": number(measured.training_gmacs),
        "share": percent(measured.training_gmacs / most),
        "fid": _fid(measured.fid),
    }


def _sampling_row(measured: Measured) -> dict[str, str]:
    return {
        "network": measured.network,
        "seed": str(measured.seed),
        "steps": str(measured.steps),
        "gmacs": number(measured.gmacs),
        "fid": _fid(measured.fid),
    }


def _edge_trial_rows(trials: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "by": row["proposed_by"],
            "edges": ", ".join(f"{edge:.0f}" for edge in row["edges"]),
            "training": number(row["training_gmacs"]),
            "fid": number(row["fid"]),
            "goes_on": "yes" if row["goes_on"] else "",
        }
        for row in trials.to_dict("records")
    ]


def _claim_row(claim: Claim) -> dict[str, str]:
    return {
        "claim": f"{claim.plan} better than {claim.other}",
        "at": claim.at,
        "differences": "; ".join(change_text(difference) for difference in claim.differences),
        "verdict": claim.verdict,
    }


def _fid(interval: Interval) -> str:
    return f"{number(interval.value)} ({number(interval.low)} to {number(interval.high)})"
