"""Exit schedules of ASE (Moon et al., ICML 2024, arXiv 2408.05927): how many blocks run at which timestep.

Symbols: S(n) blocks that run at timestep n, never more where there is more noise; L blocks of the network; K equal bins
of the timesteps 0..T-1, data to noise as in the paper.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..diffusion.noise import NoiseSchedule
from ..diffusion.stages import StageSchedule
from ..errors import InputError

logger = logging.getLogger(__name__)

TableName = Literal["demo", "light", "heavy"]
# Of 28 blocks. `demo` is the one schedule in the authors' code; the other two are made here to its pattern, with the
# mean depths, 22.0 and 18.3, that the times in the paper's rebuttal come to.
TABLES: dict[TableName, tuple[int, ...]] = {
    "demo": (28, 28, 24, 24, 20, 20, 16, 16, 12, 12),
    "light": (28, 28, 26, 24, 22, 20, 20, 18, 18, 16),
    "heavy": (28, 26, 22, 20, 18, 16, 14, 14, 13, 12),
}
_OF_BLOCKS = 28
BINS = 10  # of all tables, as in the authors' code


@dataclass(frozen=True)
class ExitSchedule:
    """depths: S in each of K equal bins of timesteps, data to noise.

    Raises InputError where S rises towards noise, or there are more bins than timesteps or none.
    """

    depths: tuple[int, ...]
    noise: NoiseSchedule

    def __post_init__(self) -> None:
        if not 1 <= len(self.depths) <= self.noise.timesteps:
            raise InputError(f"{len(self.depths)} exit depths do not divide {self.noise.timesteps} timesteps into bins")
        for b, (nearer, noisier) in enumerate(zip(self.depths, self.depths[1:], strict=False)):
            if noisier > nearer:
                raise InputError(
                    f"exit depths {list(self.depths)} rise towards noise, from {nearer} to {noisier} at bin {b + 1}: "
                    "they go from data to noise and may only fall"
                )

    @classmethod
    def named(cls, name: TableName, exit_depths: range, noise: NoiseSchedule) -> "ExitSchedule":
        """A table scaled to a network; raises InputError, listing those there are, for another name."""
        if name not in get_args(TableName):
            raise InputError(f"there is no exit schedule {name!r}; there are {', '.join(get_args(TableName))}")
        return cls.from_relative([depth / _OF_BLOCKS for depth in TABLES[name]], exit_depths, noise)

    @classmethod
    def from_relative(cls, relative: Sequence[float], exit_depths: range, noise: NoiseSchedule) -> "ExitSchedule":
        """Depths as shares of L, data to noise; exit_depths: of the network, the last is L.

        Rounded to the nearest block, halves up, and then brought within the exit depths that the network has: a U-ViT
        keeps more than half of its blocks, which is said in the log.
        """
        full, least = exit_depths[-1], exit_depths[0]
        wanted = [math.floor(share * full + 0.5) for share in relative]
        if min(wanted) < least:
            logger.info("the network runs %d of its %d blocks at least: fewer are raised to that", least, full)
        return cls(tuple(min(max(depth, least), full) for depth in wanted), noise)

    @classmethod
    def from_knee(
        cls, least: int, knee: int, slope: float, full: int, bins: int, noise: NoiseSchedule
    ) -> "ExitSchedule":
        """All `full` blocks in the first `knee` bins from data, then `slope` fewer a bin, never below `least`.

        Raises InputError for a slope below 0.
        """
        falling = [full - slope * max(0, b + 1 - knee) for b in range(bins)]
        return cls(tuple(max(least, math.floor(depth + 0.5)) for depth in falling), noise)

    @property
    def mean_depth(self) -> float:
        """Blocks that run, mean over the timesteps."""
        return sum(self.depths) / len(self.depths)

    def require_fits(self, exit_depths: range) -> None:
        """Raises InputError where a network has not all of the depths."""
        missing = [depth for depth in self.depths if depth not in exit_depths]
        if missing:
            raise InputError(
                f"exit depth {missing[0]} is none of this network, which runs {exit_depths[0]} to {exit_depths[-1]} "
                "of its blocks"
            )

    def depth_at(self, timesteps: Tensor) -> Tensor:
        """S(n), (N,) int64 on the CPU, at timesteps (N,)."""
        bins = (timesteps.double().cpu() * len(self.depths) / self.noise.timesteps).long()
        return torch.tensor(self.depths)[bins.clamp(max=len(self.depths) - 1)]

    def stages(self, network: str) -> StageSchedule:
        """Who serves when: "<network>/<depth>", neighbouring bins of one depth being one stage."""
        runs = [(depth, len(list(run))) for depth, run in groupby(self.depths)]
        counts = [sum(count for _, count in runs[:j]) for j in range(1, len(runs))]
        edges = [self.noise.timesteps * count / len(self.depths) for count in counts]
        serves = tuple(f"{network}/{depth}" for depth, _ in reversed(runs))
        return StageSchedule(tuple(edges[::-1]), serves, self.noise)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; `from_dict` makes the schedule of it again."""
        return {"depths": list(self.depths), "noise": asdict(self.noise)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "ExitSchedule":
        return cls(tuple(raw["depths"]), NoiseSchedule(**raw["noise"]))
