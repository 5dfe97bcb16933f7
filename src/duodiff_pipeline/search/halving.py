"""Successive halving over edges that need a training each (Jamieson and Talwalkar, 2016, arXiv 1502.07943)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Edges = tuple[float, ...]


@dataclass(frozen=True)
class Candidate:
    """Edges, noise to data, and who proposed them."""

    proposed_by: str
    edges: Edges


@dataclass(frozen=True)
class Halved:
    """What a candidate measured at a rung, and whether it went on."""

    candidate: Candidate
    rung: int
    value: float
    goes_on: bool


def distinct(proposed: Sequence[Candidate], grid: Sequence[float]) -> list[Candidate]:
    """Those that part a solver's grid of timesteps differently, the first of each, naming all who proposed it.

    What leaves a stage without any of the timesteps is left out: its decoder would never serve.
    """
    alike: dict[tuple[int, ...], list[Candidate]] = {}
    for one in proposed:
        stages = tuple(sum(edge > n for edge in one.edges) for n in grid)
        if len(set(stages)) == len(one.edges) + 1:
            alike.setdefault(stages, []).append(one)
    return [Candidate("; ".join(one.proposed_by for one in own), own[0].edges) for own in alike.values()]


def spread(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """At most `count` of them, evenly spread along their edges, the first stage's first."""
    ordered = sorted(candidates, key=lambda one: one.edges, reverse=True)
    picked = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return [ordered[i] for i in picked]


def halve(
    candidates: Sequence[Candidate], rungs: int, measure: Callable[[Edges, int], float]
) -> tuple[Candidate, list[Halved]]:
    """The candidate that is left when the better half goes on after every rung but the last, after which the best does.

    measure: what a candidate comes to at a rung, less being better. All that is left is measured at every rung, until
    one alone is left. Raises ValueError where there is no candidate.
    """
    if not candidates:
        raise ValueError("there are no edges to choose from")
    measured: list[Halved] = []
    left = list(candidates)
    for rung in range(rungs):
        values = [measure(one.edges, rung) for one in left]
        order = sorted(range(len(left)), key=values.__getitem__)
        going_on = set(order[: 1 if rung == rungs - 1 else max(1, len(left) // 2)])
        measured += [Halved(one, rung, values[i], i in going_on) for i, one in enumerate(left)]
        left = [left[i] for i in order if i in going_on]
        if len(left) == 1:
            break
    return left[0], measured
