"""Sampling plans: a denoiser and a solver in names and numbers only, and how to make them of stored networks."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any

from ..diffusion.denoiser import Denoiser
from ..diffusion.guidance import GuidedDenoiser, evaluations_at
from ..diffusion.noise import NoiseSchedule
from ..diffusion.solvers import Solver
from ..diffusion.stages import StageSchedule
from ..errors import InputError
from .adaptive import AdaptiveDenoiser
from .backbone import Backbone, BackboneConfig, HasParts, network_of, part_of
from .early_exit import EarlyExits
from .exit_schedule import ExitSchedule
from .files import BYTES_PER_PARAMETER, StoredNetwork
from .shared_exits import SharedExits
from .staged import StagedDenoiser
from .transformer import TransformerBackbone


@dataclass(frozen=True)
class SamplingPlan:
    """What generates a set of images.

    name: as it stands in records and figures; schedule: who serves which timesteps, one stage for a bare network;
    exit_threshold: the uncertainty at which the adaptive denoiser (AdaDiff) leaves the one network of the schedule;
    exit_patience: see `AdaptiveDenoiser`.
    Of one stage the solver always carries its history, so that plans which do the same are equal.

    Raises InputError for early exits in a schedule of several stages.
    """

    name: str
    solver: Solver
    schedule: StageSchedule
    exit_threshold: float | None = None
    exit_patience: int = 0

    def __post_init__(self) -> None:
        if self.exit_threshold is not None and len(self.schedule.serves) > 1:
            raise InputError(f"{self.name}: early exits belong to one network, but the schedule names several")
        if len(self.schedule.serves) == 1:
            object.__setattr__(self, "solver", self.solver.alone)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; `from_dict` makes the plan of it again."""
        exits = {"exit_threshold": self.exit_threshold, "exit_patience": self.exit_patience}
        return {"name": self.name, **self.solver.to_dict(), **self.schedule.to_dict(), **exits}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "SamplingPlan":
        schedule, exits = StageSchedule.from_dict(raw), (raw["exit_threshold"], raw["exit_patience"])
        return cls(raw["name"], Solver.from_dict(raw), schedule, *exits)

    @property
    def grid(self) -> tuple[float, ...]:
        return self.solver.grid(self.schedule.noise)

    @property
    def runs(self) -> str:
        """Who serves how many evaluations in a row, noise to data: "5 shallow, 15 deep"."""
        served = groupby(self.schedule.assignment(self.grid))
        return ", ".join(f"{len(list(run))} {name}" for name, run in served)

    @property
    def switches(self) -> tuple[int, ...]:
        """The number of evaluations before each edge: (k,) of two stages, nothing of one."""
        return tuple(accumulate(self.schedule.counts(self.grid)))[:-1]

    @property
    def switch(self) -> int | None:
        """k, where the plan has two stages."""
        return self.switches[0] if len(self.switches) == 1 else None


def single(name: str, network: str, solver: Solver, noise: NoiseSchedule) -> SamplingPlan:
    """One network throughout."""
    return SamplingPlan(name, solver, StageSchedule((), (network,), noise))


@dataclass(frozen=True)
class NetworkBank:
    """The stored backbones by name, and the early exits of one of them. A part is named "<network>/<part>".

    guidance: scale of classifier-free guidance by backbone, 1 where it is not named.

    Raises InputError where backbones were trained on other images than one another or take labels of other classes, the
    exits belong to another network, or guidance needs a null class that a backbone lacks. Foreign checkpoints, trained
    on nobody knows which images, go with all.
    """

    backbones: Mapping[str, StoredNetwork]
    exits: StoredNetwork | None = None
    exits_of: str | None = None
    guidance: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({stored.header.data_sha256 for stored in self.backbones.values()} - {None}) > 1:
            raise InputError(
                f"the backbones {sorted(self.backbones)} were not trained on the same images: train them anew"
            )
        if self.exits is not None and self.exits.header.backbone_sha256 != self.backbones[self.exits_of or ""].sha256:
            raise InputError(f"the early exits do not belong to this {self.exits_of}: train them anew")
        by_name = {name: self._config(name).classes for name in self.backbones}
        if len(set(by_name.values())) > 1:
            raise InputError(f"the backbones take labels of different numbers of classes: {by_name}")
        for name in self.backbones:
            if self._scale(name) != 1 and self._config(name).null_label is None:
                raise InputError(
                    f"guidance of {name} by {self._scale(name):g} needs a class for no label, but it has none"
                )

    @property
    def classes(self) -> int:
        """C, which all backbones have; 0 where they are unconditional."""
        return next((self._config(name).classes for name in self.backbones), 0)

    def guidance_of(self, plan: SamplingPlan) -> tuple[float, ...] | None:
        """The scale of every stage of a plan; None where nothing is conditional."""
        return tuple(self._scale(name) for name in plan.schedule.serves) if self.classes else None

    def _scale(self, name: str) -> float:
        return self.guidance.get(network_of(name), 1.0)

    def _config(self, name: str) -> BackboneConfig:
        return self.stored(name).module.config  # type: ignore[return-value]

    def _guided(self, denoiser: Denoiser, name: str) -> Denoiser:
        null_label, scale = self._config(name).null_label, self._scale(name)
        if null_label is None or scale == 1:
            return denoiser
        return GuidedDenoiser(denoiser, null_label, scale)

    def stored(self, name: str) -> StoredNetwork:
        """What a name in a plan belongs to; raises InputError where there is no such backbone."""
        network = network_of(name)
        if network not in self.backbones:
            raise InputError(f"there is no backbone {network!r}; there are {sorted(self.backbones)}")
        return self.backbones[network]

    def network(self, name: str) -> Backbone:
        """The backbone, or the part of one, that a name in a plan means.

        Raises InputError where there is none of that name, and where a part must be named.
        """
        module, part = self.stored(name).module, part_of(name)
        if part is None and isinstance(module, Backbone):
            return module
        if not isinstance(module, HasParts):
            raise InputError(f"{name}: {network_of(name)} has no parts")
        try:
            return module.part(part or "")
        except InputError as error:
            raise InputError(f"{name}: {error}") from error

    def denoiser(self, plan: SamplingPlan) -> Denoiser:
        """Raises InputError where the plan names a missing network or uses one outside its trained timesteps."""
        schedule = plan.schedule
        for j, name in enumerate(schedule.serves):
            network = self.network(name)
            served = [n for n in plan.grid if schedule.stage(n) == j]
            self.stored(name).header.require_trained_for(name, served)
            if network.config.noise != schedule.noise:
                raise InputError(
                    f"{name} was trained on {network.config.noise}, but the schedule lies on {schedule.noise}"
                )
        if plan.exit_threshold is None:
            return StagedDenoiser(schedule, {name: self._guided(self.network(name), name) for name in schedule.serves})
        (name,) = schedule.serves
        if self.exits is None or name != self.exits_of:
            raise InputError(f"{plan.name}: {name} has no early exits")
        network, exits = self.network(name), self.exits.module
        assert isinstance(network, TransformerBackbone)
        assert isinstance(exits, EarlyExits | SharedExits)
        return self._guided(AdaptiveDenoiser(network, exits, plan.exit_threshold, plan.exit_patience), name)

    def macs(self, name: str) -> int:
        """Multiply-accumulates of one evaluation of one image by a backbone or a part, guidance included."""
        return evaluations_at(self._scale(name)) * self.network(name).macs

    def note(self, plan: SamplingPlan) -> str:
        """What must be said of a plan that samples with another exit schedule than its network was trained for."""
        for j, name in enumerate(plan.schedule.serves):
            trained = self.stored(name).header.exit_schedule
            if trained is None:
                continue
            intended = ExitSchedule.from_dict(trained).stages(network_of(name))
            served = [n for n in plan.grid if plan.schedule.stage(n) == j]
            if set(intended.assignment(served)) - {name}:
                return "sampled with another exit schedule than it was trained for"
        return ""

    def served_by(self, plan: SamplingPlan) -> tuple[tuple[int, str, str | None, float], ...]:
        """Of each evaluation, the stage, and who serves it: the sha256 of the network, the part, and its guidance."""
        serves = [(self.stored(name).sha256, part_of(name), self._scale(name)) for name in plan.schedule.serves]
        return tuple((stage, *serves[stage]) for stage in map(plan.schedule.stage, plan.grid))

    def resident_parameters(self, plan: SamplingPlan) -> int:
        """In memory: a network counts once, however many of its parts serve; exits with one of their own replace it."""
        names = {network_of(name) for name in plan.schedule.assignment(plan.grid)}
        networks = [self.backbones[name] for name in names]
        exits = None if plan.exit_threshold is None else self.exits
        if exits is not None:
            networks = [exits] if isinstance(exits.module, SharedExits) else [*networks, exits]
        return sum(network.parameters for network in networks)

    def static_gmacs(self, plan: SamplingPlan) -> float:
        """Cost of one image of a plan without early exits, known before anything is sampled."""
        served = Counter(plan.schedule.assignment(plan.grid))
        return sum(evaluations * self.macs(name) for name, evaluations in served.items()) / 1e9

    def resident_mb(self, names: Iterable[str]) -> float:
        """Megabytes (1e6 bytes) that these take together; what stands under two names counts once."""
        stored = {self.backbones[name].sha256: self.backbones[name] for name in names}
        return sum(BYTES_PER_PARAMETER * one.parameters for one in stored.values()) / 1e6
