"""What runs with the same start have in common is sampled once: later ones go on from states that an earlier one left.

As long as one network has served from pure noise on, the state does not tell which schedule it belongs to. So all
switches k = 0..S of one solver cost S evaluations of the first network and S (S + 1) / 2 of the second, where sampling
each from noise costs S (S + 1) / 2 of both.
"""

import copy
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from .solvers import SolverRun


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation of a micro-batch did: exit_depth, macs (N,) as in `Prediction`; seconds with the solver's."""

    stage: int
    exit_depth: Tensor
    macs: Tensor
    seconds: float


@dataclass(frozen=True)
class State:
    """A micro-batch on its way: x (N, C, H, W), the solver with its history, and what was evaluated so far."""

    x: Tensor
    run: SolverRun
    evaluations: tuple[Evaluation, ...]


class SharedStarts:
    """States of micro-batches, at most `capacity_bytes` of images and solver histories; the least used go first.

    A state is found again under everything that it depends on, so a run that goes on from one makes the same images,
    bit for bit, as from noise. hits and misses count micro-batches.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.hits = self.misses = 0
        self._states: OrderedDict[Hashable, State] = OrderedDict()
        self._bytes = 0

    def recall(self, of: Hashable, served_by: Sequence[Hashable]) -> State | None:
        """The furthest state from which a run can go on, as its own to change; None where there is none.

        of: what it depends on beside who serves; served_by: who serves each evaluation of the run.
        """
        alike = sum(1 for _ in takewhile(lambda who: who == served_by[0], served_by))
        for count in range(alike, 0, -1):
            key = (of, served_by[0], count)
            if (state := self._states.get(key)) is not None:
                self._states.move_to_end(key)
                self.hits += 1
                return State(state.x, copy.deepcopy(state.run), state.evaluations)
        self.misses += 1
        return None

    def keep(self, of: Hashable, served_by: Sequence[Hashable], state: State) -> None:
        """Keep the state, if one network alone has served up to there."""
        count = len(state.evaluations)
        if len(set(served_by[:count])) > 1:
            return
        key = (of, served_by[0], count)
        if key not in self._states:
            self._states[key] = kept = State(state.x, copy.deepcopy(state.run), state.evaluations)
            self._bytes += _size_bytes(kept)
        while self._bytes > self.capacity_bytes:
            self._bytes -= _size_bytes(self._states.popitem(last=False)[1])


def _size_bytes(state: State) -> int:
    return state.x.nbytes + state.run.history_bytes
