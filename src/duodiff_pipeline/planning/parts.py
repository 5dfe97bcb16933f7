"""The parts of a run, pipeline by pipeline, and what each of them costs."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..config import Parameters
from ..errors import InputError
from ..metrics.seconds import share_outside_matrix_products, time_in_turns
from ..networks.files import StoredNetwork
from ..networks.plans import NetworkBank
from ..pipelines.evaluation.comparison import EvaluatedPlan, evaluated_plans
from ..pipelines.evaluation.nodes import TIMED_EVALUATIONS, TIMED_RUNS, evaluation_bank
from ..pipelines.exit_statistics.nodes import exit_plans
from ..pipelines.multistage.nodes import stage_plans
from ..pipelines.switch_curves.nodes import curve_bank, curve_names, curve_plans
from .images import Found, KnownImages
from .networks import ASE, EXITS, Networks, PlannedTraining
from .sampling import Call, Shared, Tally, tally_of
from .search import Rehearsal, rehearse


@dataclass(frozen=True)
class Part:
    """pipeline, what: name it; training: where it is one; tally: what is sampled otherwise, None where the number of
    images is not known; note: what the numbers leave open.
    """

    pipeline: str
    what: str
    training: PlannedTraining | None = None
    tally: Tally | None = None
    note: str = ""

    @property
    def gmacs(self) -> float | None:
        if self.training is not None:
            return self.training.gmacs
        return None if self.tally is None else self.tally.gmacs


def parts_of(p: Parameters, networks: Networks, images: KnownImages, found: Found) -> list[Part]:
    """In the order of a run."""
    trained = [one for one in networks.trainings.values() if one.new is not None]
    trainings = [Part(one.pipeline, one.name, training=one) for one in trained]
    shape, sampled = images.train.shape_chw, _Sampled(p, networks, images, found)
    measured = [
        Part("exit_statistics", sampled.exits_what, tally=sampled.exits(), note="if no image leaves early"),
        Part("loss_gap", "shallow and deep", tally=sampled.loss_gap()),
        *sampled.search_and_evaluation(shape),
    ]
    return [*trainings, *measured]


class _Sampled:
    """What the nodes that evaluate networks sample."""

    def __init__(self, p: Parameters, networks: Networks, images: KnownImages, found: Found) -> None:
        self.p, self.networks, self.images, self.found = p, networks, images, found
        self.noise, self.size = p.noise.schedule(), p.sampling.micro_batch_images
        names = [*p.backbones, *([ASE] if p.ase else [])]
        self.decoders = _decoders(p)
        self.stored: dict[str, StoredNetwork] = {name: networks.stored(name) for name in names}
        self.stored |= {name: networks.stored(training) for name, training in self.decoders.items()}

    @property
    def exits_what(self) -> str:
        settings = self.p.exit_statistics
        return f"{len(settings.thresholds)} thresholds, {settings.images:,} images"

    @property
    def evaluation_bank(self) -> NetworkBank:
        networks = {**self.stored, EXITS: self.networks.stored(EXITS)}
        return evaluation_bank(networks, self.p.early_exit, self.p.sampling)

    def exits(self) -> Tally:
        p = self.p
        plans = exit_plans(p.exit_statistics, p.early_exit, self.noise)
        return tally_of(self.evaluation_bank, plans, p.exit_statistics.images, self.size)

    def loss_gap(self) -> Tally | None:
        """Errors on noise, without a solver's steps; by the labels alone."""
        if self.images.n_held_out is None:
            return None
        tally, images = Tally(), min(self.p.loss_gap.images, self.images.n_held_out)
        bank = NetworkBank(self.stored)
        for name in (self.p.everywhere[0], self.p.everywhere[-1]):
            evaluations = sum(len(solver.grid(self.noise)) for solver in self.p.switch_curves.solvers())
            tally.calls[Call(name, bank.macs(name), images)] += evaluations
            tally.gmacs += evaluations * bank.macs(name) * images / 1e9
        return tally

    def search_and_evaluation(self, shape_chw: tuple[int, int, int]) -> list[Part]:
        p, held_out = self.p, self.images.n_held_out
        of_search, of_block = p.switch_search.images or held_out, p.evaluation.images or held_out
        unknown = "the number of held-out images is not known"
        searched = [name for name in (*p.switch_search.backbones, *([ASE] if p.ase else []), *self.decoders)]
        networks = {name: self.stored[name] for name in searched}
        bank = NetworkBank(networks, guidance=p.sampling.guidance_by(networks))
        rehearsal = rehearse(p, bank, shape_chw, of_search or p.sampling.micro_batch_images)
        evaluated, which = self._evaluated(rehearsal)
        seeds = len(p.evaluation.seeds)
        parts = [
            Part(
                "switch_search",
                f"{rehearsal.trials} trials",
                tally=rehearsal.tally.called(self.decoders) if of_search else None,
                note="as if FID fell with cost alone" if of_search else unknown,
            ),
            self._curves(of_block, shape_chw, unknown),
            Part(
                "evaluation",
                f"{len(evaluated)} plans, {seeds} blocks",
                tally=self._blocks(evaluated, of_block) if of_block else None,
                note=which if of_block else unknown,
            ),
            Part("evaluation", "seconds at every batch", tally=self._timed(evaluated), note=which),
        ]
        if p.multistage is not None:
            tally, count = self._multistage(of_block)
            parts.insert(
                0, Part("multistage", f"{count} plans, {seeds} blocks", tally=tally, note="" if tally else unknown)
            )
        return parts

    def _curves(self, n_images: int | None, shape_chw: tuple[int, int, int], unknown: str) -> Part:
        p = self.p
        names = curve_names(p.everywhere[0], p.everywhere[-1], p.evaluation.middle, p.first_stage)
        bank = curve_bank({name: self.stored[backbone] for name, backbone in names.items()}, names, p.sampling)
        plans = curve_plans(p.switch_curves, bank, self.noise)
        seeds = len(p.evaluation.seeds)
        what = f"{len(plans)} plans, {seeds} blocks"
        if n_images is None:
            return Part("switch_curves", what, note=unknown)
        tally = tally_of(bank, plans, n_images, self.size, Shared(shape_chw))
        return Part("switch_curves", what, tally=tally.times(seeds).called(names))

    def _evaluated(self, rehearsal: Rehearsal) -> tuple[list[EvaluatedPlan], str]:
        """Plans, and whose schedules are among them."""
        p, chosen = self.p, self.found("chosen_schedules")
        patience = p.early_exit.exit_patience
        of = (p.evaluation, self.evaluation_bank, p.switch_search.backbones, self.noise, patience, p.ase)
        if chosen is not None:
            try:
                return evaluated_plans(chosen, *of), "with the schedules that the last search chose"
            except (InputError, KeyError):  # of other networks than there are now
                pass
        return evaluated_plans(rehearsal.chosen, *of), "with schedules as the search may choose them"

    def _blocks(self, evaluated: list[EvaluatedPlan], n_images: int) -> Tally:
        tally = tally_of(self.evaluation_bank, [one.plan for one in evaluated], n_images, self.size)
        return tally.times(len(self.p.evaluation.seeds)).called(self.decoders)

    def _timed(self, evaluated: list[EvaluatedPlan]) -> Tally:
        """Images are not measured, only timed. Runs are counted by having them counted."""
        runs = Counting()
        time_in_turns({"": runs}, TIMED_RUNS)
        alone = Counting()
        share_outside_matrix_products(alone, TIMED_EVALUATIONS)
        bank, tally = self.evaluation_bank, Tally()
        for images in self.p.evaluation.timed_batches:
            plans = [one.plan for one in evaluated if one.role != "control"]
            batch = replace(tally_of(bank, plans, images, images).times(runs.count), drawn_images=0)
            for name in (self.p.everywhere[0], self.p.everywhere[-1]):
                batch.calls[Call(name, bank.macs(name), images)] += alone.count
                batch.gmacs += alone.count * bank.macs(name) * images / 1e9
            tally.add(batch)
        return tally.called(self.decoders)

    def _multistage(self, n_images: int | None) -> tuple[Tally | None, int]:
        p, settings = self.p, self.p.multistage
        assert settings is not None
        stored: dict[str, Any] = {}
        for name in settings.networks:
            for seed in settings.seeds:
                one = self.networks.trainings[f"{name}_{seed}"]
                steps = (*one.kept, one.steps)
                checkpoints = [{"step": step, "training_gmacs": one.gmacs * step / one.steps} for step in steps]
                stored[f"curve_{name}_{seed}"] = {"checkpoints": checkpoints}
                stored |= {f"network_{name}_{seed}_{i}": one.stored for i in range(len(steps))}
        plans = stage_plans(self.networks.edges, settings, self.noise, stored)
        if n_images is None:
            return None, len(plans)
        tally = Tally()
        for bank, plan, row in plans:
            drawn = tally_of(bank, [plan], n_images, self.size).times(len(p.evaluation.seeds))
            tally.add(drawn.called({row["network"]: f"{row['network']}_{row['seed']}"}))
        return tally, len(plans)


class Counting:
    """A run that does nothing but being counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Tensor:
        self.count += 1
        return torch.empty(0)


def _decoders(p: Parameters) -> dict[str, str]:
    """Networks of several decoders that the search and the evaluation take, by the name of their first training."""
    if p.multistage is None:
        return {}
    several = [name for name, network in p.multistage.networks.items() if len(network.decoder_widths) > 1]
    return {name: f"{name}_{p.multistage.seeds[0]}" for name in several}
