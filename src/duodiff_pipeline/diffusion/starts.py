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

    def of(self, served_by: Sequence[Hashable]) -> "Start":
        """For runs of one plan; served_by: of each evaluation, its stage and what identifies the network."""
        alike = sum(1 for _ in takewhile(lambda who: who == served_by[0], served_by))
        return Start(self, served_by[0], alike)

    def recall(self, key: Hashable) -> State | None:
        """The state, as a run's own to change."""
        if (state := self._states.get(key)) is None:
            return None
        self._states.move_to_end(key)
        return State(state.x, copy.deepcopy(state.run), state.evaluations)

    def keep(self, key: Hashable, state: State) -> None:
        """Keep the state as it is now."""
        if key not in self._states:
            self._states[key] = kept = State(state.x, copy.deepcopy(state.run), state.evaluations)
            self._bytes += _size_bytes(kept)
        while self._bytes > self.capacity_bytes:
            self._bytes -= _size_bytes(self._states.popitem(last=False)[1])


@dataclass(frozen=True)
class Start:
    """What the runs of one plan share with others: `alike` evaluations, from noise on, that are all `served_by` one."""

    states: SharedStarts
    served_by: Hashable
    alike: int

    def recall(self, depends_on: Hashable) -> State | None:
        """The furthest state to go on from; depends_on: all that it depends on but who serves."""
        for count in range(self.alike, 0, -1):
            if state := self.states.recall((depends_on, self.served_by, count)):
                self.states.hits += 1
                return state
        self.states.misses += 1
        return None

    def keep(self, depends_on: Hashable, state: State) -> None:
        """Keep the state, as long as one alone has served."""
        if (count := len(state.evaluations)) <= self.alike:
            self.states.keep((depends_on, self.served_by, count), state)


def _size_bytes(state: State) -> int:
    return state.x.nbytes + state.run.history_bytes
