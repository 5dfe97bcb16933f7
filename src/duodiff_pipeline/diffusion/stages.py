"""Stage schedules: which denoiser serves which timesteps. The one definition of "switch".

Symbols: e_1 > e_2 > ... edges on the timestep axis; stage j (0-based, noise to data) serves e_j > n >= e_{j+1}
with e_0 = T and e_K = 0; k is the number of evaluations that the first stage serves. Of more than two stages the
switches k_1 <= k_2 <= ... count the evaluations before each edge.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from ..errors import InputError
from .noise import NoiseSchedule


@dataclass(frozen=True)
class StageSchedule:
    """A partition of the timesteps 0..T-1 into stages, ordered from noise to data.

    edges: K-1 timesteps in descending order; serves: the names of the K denoisers, noise to data, each
    a network, or a part of one as `<network>/<part>`.

    Raises InputError where edges ascend, repeat or leave 0..T, or where names and edges do not match in number.
    """

    edges: tuple[float, ...]
    serves: tuple[str, ...]
    noise: NoiseSchedule

    def __post_init__(self) -> None:
        if len(self.serves) != len(self.edges) + 1:
            raise InputError(
                f"{len(self.edges)} edges make {len(self.edges) + 1} stages, but {len(self.serves)} denoisers are named"
            )
        if any(a <= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise InputError(f"edges {list(self.edges)} must descend: stages are ordered from noise to data")
        if any(not 0 <= e <= self.noise.timesteps for e in self.edges):
            raise InputError(f"edges {list(self.edges)} must lie within 0..{self.noise.timesteps}")

    @classmethod
    def from_switch(
        cls, k: int, grid: Sequence[float], serves: tuple[str, str], noise: NoiseSchedule
    ) -> "StageSchedule":
        """Two stages of which the first serves the first k evaluations of a solver's `grid` of timesteps.

        Evaluations at equal timesteps are never split: k then rounds up, with a warning.
        Raises InputError where k is not within 0..len(grid).
        """
        if not 0 <= k <= len(grid):
            raise InputError(f"switch k = {k} must lie within 0..{len(grid)}, the evaluations this solver makes")
        return cls((_edge_after(k, grid, noise),), serves, noise)

    @classmethod
    def from_counts(
        cls, counts: Sequence[int], grid: Sequence[float], serves: Sequence[str], noise: NoiseSchedule
    ) -> "StageSchedule":
        """Denoisers that serve so many evaluations of a solver's `grid` each, noise to data.

        Who serves none gets no stage. Evaluations at equal timesteps are never split, as in `from_switch`.
        Raises InputError where the counts are not one a denoiser, are negative, or do not add up to len(grid).
        """
        if len(counts) != len(serves) or min(counts) < 0 or sum(counts) != len(grid):
            raise InputError(
                f"{list(counts)} do not say how many of {len(grid)} evaluations each of {list(serves)} serves"
            )
        bounds = [float(noise.timesteps), *(_edge_after(k, grid, noise) for k in accumulate(counts))]
        kept = [j for j in range(len(serves)) if bounds[j] > bounds[j + 1]]
        return cls(tuple(bounds[j] for j in kept[1:]), tuple(serves[j] for j in kept), noise)

    @classmethod
    def of_parts(cls, network: str, edges: Sequence[float], noise: NoiseSchedule) -> "StageSchedule":
        """Every stage served by its own part of a network, "<network>/0" the first."""
        return cls(tuple(edges), tuple(f"{network}/{stage}" for stage in range(len(edges) + 1)), noise)

    def stage(self, timestep: float) -> int:
        """The stage that serves an evaluation at `timestep`."""
        return sum(edge > timestep for edge in self.edges)

    def assignment(self, grid: Sequence[float]) -> tuple[str, ...]:
        """Who serves every evaluation of a solver's grid: what the schedule comes to there."""
        return tuple(self.serves[self.stage(n)] for n in grid)

    def counts(self, grid: Sequence[float]) -> tuple[int, ...]:
        """The number of evaluations of a solver's grid that each stage serves."""
        served = [self.stage(n) for n in grid]
        return tuple(served.count(j) for j in range(len(self.serves)))

    def switch(self, grid: Sequence[float]) -> int:
        """k: the number of evaluations of a solver's grid that the first stage serves."""
        return self.counts(grid)[0]

    def serving(self, grid: Sequence[float]) -> "StageSchedule":
        """The same on a solver's grid, without the stages that serve none of its evaluations."""
        kept = [j for j, count in enumerate(self.counts(grid)) if count]
        edges = tuple(self.edges[j - 1] for j in kept[1:])
        return StageSchedule(edges, tuple(self.serves[j] for j in kept), self.noise)

    def stage_range(self, j: int) -> tuple[float, float]:
        """The half-open range [low, high) of timesteps that stage j serves."""
        bounds = (float(self.noise.timesteps), *self.edges, 0.0)
        return bounds[j + 1], bounds[j]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold, the noise schedule it belongs to included."""
        return {"edges": list(self.edges), "serves": list(self.serves), "noise": asdict(self.noise)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "StageSchedule":
        return cls(tuple(raw["edges"]), tuple(raw["serves"]), NoiseSchedule(**raw["noise"]))


def _edge_after(k: int, grid: Sequence[float], noise: NoiseSchedule) -> float:
    """The edge between evaluations k-1 and k of a grid; equal timesteps are not parted: k then rounds up and warns."""
    wanted = k
    while 0 < k < len(grid) and grid[k] == grid[k - 1]:
        k += 1
    if k != wanted:
        warnings.warn(
            f"switch k = {wanted} would split evaluations at one timestep; it is rounded up to {k}", stacklevel=3
        )
    if k == 0:
        return float(noise.timesteps)
    return 0.0 if k == len(grid) else (grid[k - 1] + grid[k]) / 2
