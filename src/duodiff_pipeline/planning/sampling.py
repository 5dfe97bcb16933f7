"""How often networks are evaluated, and at which cost, where plans are sampled."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import torch

from ..diffusion.guidance import GuidedDenoiser
from ..diffusion.solvers import SolverRun
from ..diffusion.starts import Evaluation, SharedStarts, State
from ..networks.adaptive import AdaptiveDenoiser
from ..networks.backbone import network_of
from ..networks.plans import NetworkBank, SamplingPlan
from ..pipelines.measuring import STARTS_BYTES

BYTES_PER_NUMBER = 4


class Call(NamedTuple):
    """One evaluation of a network on so many images, at `macs` multiply-accumulates each, guidance included."""

    network: str
    macs: int
    images: int


@dataclass
class Tally:
    """calls: how many of each; gmacs: of the images that are asked for, as records have it, while calls hold whole
    micro-batches; drawn_images: that come of it, shared among devices; judged_images: whose features are taken.
    """

    calls: Counter[Call] = field(default_factory=Counter)
    gmacs: float = 0.0
    drawn_images: int = 0
    judged_images: int = 0

    def draw(
        self, bank: NetworkBank, plan: SamplingPlan, images: range, micro_batch_images: int, made_before: int = 0
    ) -> None:
        """Add the sampling of these images, but for the first evaluations, as many as were made before."""
        size = micro_batch_images
        batches = math.ceil(images.stop / size) - images.start // size
        for (network, macs), evaluations in _evaluated(bank, plan, made_before).items():
            self.calls[Call(network, macs, size)] += evaluations * batches
            self.gmacs += evaluations * macs * len(images) / 1e9
        self.drawn_images += len(images)

    def add(self, other: "Tally") -> None:
        self.calls.update(other.calls)
        self.gmacs += other.gmacs
        self.drawn_images += other.drawn_images
        self.judged_images += other.judged_images

    def times(self, count: int) -> "Tally":
        """So many of it."""
        calls = Counter({call: count * number for call, number in self.calls.items()})
        return Tally(calls, count * self.gmacs, count * self.drawn_images, count * self.judged_images)

    def called(self, names: Mapping[str, str]) -> "Tally":
        """The same, with networks by other names."""
        calls: Counter[Call] = Counter()
        for call, number in self.calls.items():
            calls[call._replace(network=names.get(call.network, call.network))] += number
        return replace(self, calls=calls)


def _evaluated(bank: NetworkBank, plan: SamplingPlan, made_before: int) -> dict[tuple[str, int], int]:
    """Evaluations of every network, or part of one, by its name and cost; early exits cost what leaving none does."""
    if plan.exit_threshold is not None:
        denoiser, (name,) = bank.denoiser(plan), plan.schedule.serves
        if isinstance(denoiser, GuidedDenoiser):
            denoiser = denoiser.denoiser
        assert isinstance(denoiser, AdaptiveDenoiser)
        passes = bank.macs(name) // bank.network(name).macs
        return {(name, passes * int(denoiser.macs_by_exit_depth[-1])): len(plan.grid) - made_before}
    served: Counter[tuple[str, int]] = Counter()
    for name, evaluations in Counter(plan.schedule.assignment(plan.grid[made_before:])).items():
        served[network_of(name), bank.macs(name)] += evaluations
    return dict(served)


class Shared:
    """Which evaluations a run finds made, by the rule of `SharedStarts`, without sampling anything."""

    def __init__(self, shape_chw: tuple[int, int, int]) -> None:
        self._starts = SharedStarts(STARTS_BYTES)
        self._shape_chw = shape_chw

    def made_before(self, bank: NetworkBank, plan: SamplingPlan, images: int, depends_on: Hashable = ()) -> int:
        """The first evaluations of a plan that an earlier one has made of the same images; depends_on: which they are.

        Where the states of a single plan already fill the memory for them, none is found again.
        """
        x = torch.empty(images, *self._shape_chw, device="meta")
        grid = plan.grid
        if len(grid) * x.numel() * BYTES_PER_NUMBER > STARTS_BYTES:
            return 0
        start, key = self._starts.of(bank.served_by(plan)), (plan.solver, depends_on)
        state = start.recall(key)
        made = len(state.evaluations) if state else 0
        for count in range(made + 1, min(start.alike, len(grid)) + 1):
            start.keep(key, State(x, _NO_RUN, (_NO_EVALUATION,) * count))
        return made


class _NoRun:
    """In place of a solver's history."""

    history_bytes = 0


_NO_RUN = cast(SolverRun, _NoRun())
_NO_EVALUATION = Evaluation(0, torch.empty(0), torch.empty(0), 0.0)


def tally_of(
    bank: NetworkBank,
    plans: Iterable[SamplingPlan],
    n_images: int,
    micro_batch_images: int,
    shared: Shared | None = None,
) -> Tally:
    """Of n images by every plan; shared: where they go on from one another's starts."""
    tally = Tally()
    for plan in plans:
        made_before = shared.made_before(bank, plan, n_images) if shared else 0
        tally.draw(bank, plan, range(n_images), micro_batch_images, made_before)
    return tally


def judged(tally: Tally) -> Tally:
    """The same, with features taken of all that is drawn."""
    return replace(tally, judged_images=tally.drawn_images)
