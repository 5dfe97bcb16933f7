"""The parts of a run, pipeline by pipeline, and what each of them costs."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..config import Parameters
from ..errors import InputError
from ..metrics.classifier import FeatureClassifier
from ..metrics.extractor import FeatureExtractor
from ..metrics.seconds import profile_in_turns, time_in_turns
from ..networks.cost import count_macs
from ..networks.files import StoredNetwork
from ..networks.plans import NetworkBank
from ..pipelines.evaluation.comparison import EvaluatedPlan, evaluated_plans
from ..pipelines.evaluation.nodes import TIMED_RUNS, evaluation_bank
from ..pipelines.exit_statistics.nodes import exit_plans
from ..pipelines.multistage.nodes import stage_plans
from ..pipelines.switch_curves.nodes import curve_bank, curve_names, curve_plans
from ..search.halving import Candidate, halve
from .images import UNKNOWN, Found, KnownImages
from .networks import ASE, EXITS, Networks, PlannedTraining
from .sampling import Call, Shared, Tally, judged, tally_of
from .search import Rehearsal, rehearse

CLASSIFIER, AUTOENCODER = "classifier", "autoencoder"  # beside the networks, in calls


@dataclass(frozen=True)
class Part:
    """pipeline, what: name it; training: where something is trained, and its steps: all, and those that are left;
    tally: what else is evaluated; known: whether the number of images is; plans: that leave sample grids; note: what
    the numbers leave open.
    """

    pipeline: str
    what: str
    training: PlannedTraining | None = None
    steps: int = 0
    steps_left: int = 0
    tally: Tally | None = None
    known: bool = True
    plans: int = 0
    note: str = ""

    @property
    def gmacs(self) -> float | None:
        """None where it is not known."""
        if not self.known:
            return None
        trained = self.training.gmacs * self.steps / self.training.steps if self.training else 0.0
        return trained + (self.tally.gmacs if self.tally else 0.0)

    @property
    def finished(self) -> bool:
        return self.training is not None and not self.steps_left


def parts_of(
    p: Parameters, networks: Networks, images: KnownImages, extractor: FeatureExtractor | None, found: Found
) -> list[Part]:
    """In the order of a run."""
    sampled = _Sampled(p, networks, images, found)
    trainings = [
        Part(one.pipeline, one.name, training=one, steps=one.steps, steps_left=one.steps - one.done_steps)
        for one in networks.trainings.values()
        if one.new is not None
    ]
    of_stages = [part for part in trainings if part.pipeline == "multistage_training"]
    return [
        *_of_latents(p, images),
        *_of_metrics(p, images, extractor),
        *(part for part in trainings if part.pipeline != "multistage_training"),
        Part("exit_statistics", sampled.exits_what, tally=sampled.exits(), note="if no image leaves early"),
        sampled.loss_gap(),
        *sampled.edge_search(),
        *of_stages,
        *sampled.multistage(),
        *sampled.search_and_evaluation(),
    ]


def _of_latents(p: Parameters, images: KnownImages) -> list[Part]:
    """Every image is encoded, and mirrored once more where that is asked for."""
    latents, of = images.latents, p.data_preparation.autoencoder
    if latents is None or of is None or latents.sha256 != UNKNOWN:
        return []
    if images.n_train is None or images.n_held_out is None:
        return [Part("data_preparation", "latents", known=False)]
    count = images.n_train + images.n_held_out
    encoder = latents.autoencoder.module.encoder
    macs = count_macs(encoder, torch.empty(1, *images.train.shape_chw, device="meta"))
    times = 2 if of.mirrored else 1
    tally = Tally(Counter({Call(AUTOENCODER, macs, 1): times * count}), times * count * macs / 1e9)
    return [Part("data_preparation", f"latents of {count:,} images", tally=tally)]


def _of_metrics(p: Parameters, images: KnownImages, extractor: FeatureExtractor | None) -> list[Part]:
    """The classifier's training, where there is one, and features of real images, for the reference and the floor."""
    settings, parts = p.metric_reference, list[Part]()
    if isinstance(extractor, FeatureClassifier):
        tally = Tally()
        pixels = torch.empty(1, *images.train.shape_chw, dtype=torch.uint8, device="meta")
        macs = 3 * count_macs(extractor, pixels)
        tally.calls[Call(CLASSIFIER, macs, settings.batch_images)] = settings.steps
        tally.gmacs = settings.steps * settings.batch_images * macs / 1e9
        parts.append(Part("metric_reference", "classifier for features", tally=tally))
    if images.n_train is None or images.n_held_out is None:
        return [*parts, Part("metric_reference", "real images", known=False)]
    of_reference = {"train": images.n_train, "held_out": images.n_held_out}.get(settings.reference, 0)
    real = of_reference + images.n_train + images.n_held_out
    return [*parts, Part("metric_reference", f"features of {real:,} images", tally=Tally(judged_images=real))]


class _Sampled:
    """What the nodes that evaluate networks sample."""

    def __init__(self, p: Parameters, networks: Networks, images: KnownImages, found: Found) -> None:
        self.p, self.networks, self.images, self.found = p, networks, images, found
        self.noise, self.size = p.noise.schedule(), p.sampling.micro_batch_images
        self.shape_chw, self.of_block = images.examples.shape_chw, p.evaluation.images or images.n_held_out
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

    def loss_gap(self) -> Part:
        """Errors on noise, without a solver's steps; by the labels alone."""
        tally, what = Tally(), "shallow and deep"
        if self.images.n_held_out is None:
            return Part("loss_gap", what, known=False)
        images = min(self.p.loss_gap.images, self.images.n_held_out)
        bank = NetworkBank(self.stored)
        for name in (self.p.everywhere[0], self.p.everywhere[-1]):
            evaluations = sum(len(solver.grid(self.noise)) for solver in self.p.switch_curves.solvers())
            tally.calls[Call(name, bank.macs(name), images)] += evaluations
            tally.gmacs += evaluations * bank.macs(name) * images / 1e9
        return Part("loss_gap", what, tally=tally)

    def edge_search(self) -> list[Part]:
        """At most so many trainings up to a checkpoint, by the rule of `halve`, beside the one that is finished."""
        settings = self.p.multistage
        if settings is None or settings.search is None or settings.searched is None:
            return []
        trained = self.networks.trainings[f"{settings.searched}_{settings.seeds[0]}"]
        candidates = [Candidate("", (float(i),)) for i in range(settings.search.trainings)]
        _, measured = halve(candidates, len(settings.checkpoints), lambda edges, rung: edges[0])
        until = {one.candidate: trained.kept[one.rung] for one in measured}
        measurements, winner = len(measured), until.pop(candidates[0])
        steps = sum(until.values())
        what = f"edges: {len(candidates)} networks to {min(trained.kept):,} steps or more"
        if trained.finished:
            return [Part("multistage_training", what, trained, steps)]
        return [
            Part(
                "multistage_training",
                what,
                trained,
                steps,
                steps,
                self._measured_at_checkpoints(trained, measurements) if self.of_block else None,
                self.of_block is not None,
                note=f"at most; the best, at step {winner:,}, goes on as {trained.name}",
            )
        ]

    def _measured_at_checkpoints(self, trained: PlannedTraining, count: int) -> Tally:
        settings = self.p.multistage
        assert settings is not None
        assert self.of_block is not None
        plans = self._stage_plans()
        bank, plan = next(
            (bank, plan) for bank, plan, row in plans if row["network"] == settings.searched and not row["final"]
        )
        drawn = judged(tally_of(bank, [plan], self.of_block, self.size)).times(count)
        return drawn.called({plan.name: trained.name})

    def multistage(self) -> list[Part]:
        if self.p.multistage is None:
            return []
        plans, seeds = self._stage_plans(), len(self.p.evaluation.seeds)
        what = f"{len(plans)} plans, {seeds} blocks"
        if self.of_block is None:
            return [Part("multistage", what, known=False)]
        tally = Tally()
        for bank, plan, row in plans:
            drawn = judged(tally_of(bank, [plan], self.of_block, self.size)).times(seeds)
            tally.add(drawn.called({row["network"]: f"{row['network']}_{row['seed']}"}))
        return [Part("multistage", what, tally=tally)]

    def _stage_plans(self) -> list[tuple[NetworkBank, Any, dict[str, Any]]]:
        settings = self.p.multistage
        assert settings is not None
        stored: dict[str, Any] = {}
        for name in settings.networks:
            for seed in settings.seeds:
                one = self.networks.trainings[f"{name}_{seed}"]
                steps = (*one.kept, one.steps)
                checkpoints = [{"step": step, "training_gmacs": one.gmacs * step / one.steps} for step in steps]
                stored[f"curve_{name}_{seed}"] = {"checkpoints": checkpoints}
                stored |= {f"network_{name}_{seed}_{i}": one.stored for i in range(len(steps))}
        return stage_plans(self.networks.edges, settings, self.noise, self.p.sampling, stored)

    def search_and_evaluation(self) -> list[Part]:
        p = self.p
        of_search = p.switch_search.images or self.images.n_held_out
        searched = [name for name in (*p.switch_search.backbones, *([ASE] if p.ase else []), *self.decoders)]
        networks = {name: self.stored[name] for name in searched}
        bank = NetworkBank(networks, guidance=p.sampling.guidance_by(networks))
        rehearsal = rehearse(p, bank, self.shape_chw, of_search or p.sampling.micro_batch_images)
        evaluated, which = self._evaluated(rehearsal)
        seeds = len(p.evaluation.seeds)
        return [
            Part(
                "switch_search",
                f"{rehearsal.trials} trials",
                tally=rehearsal.tally.called(self.decoders),
                known=of_search is not None,
                note="about: as earlier searches went",
            ),
            self._curves(),
            Part(
                "evaluation",
                f"{len(evaluated)} plans, {seeds} blocks",
                tally=self._blocks(evaluated, self.of_block) if self.of_block else None,
                known=self.of_block is not None,
                plans=len(evaluated),
                note=which,
            ),
            Part("evaluation", "seconds at every batch", tally=self._timed(evaluated), note=which),
        ]

    def _curves(self) -> Part:
        p = self.p
        names = curve_names(p.everywhere[0], p.everywhere[-1], p.evaluation.middle, p.first_stage)
        bank = curve_bank({name: self.stored[backbone] for name, backbone in names.items()}, names, p.sampling)
        plans = curve_plans(p.switch_curves, bank, self.noise)
        seeds = len(p.evaluation.seeds)
        what = f"{len(plans):,} plans, {seeds} blocks"
        if self.of_block is None:
            return Part("switch_curves", what, known=False)
        tally = judged(tally_of(bank, plans, self.of_block, self.size, Shared(self.shape_chw)))
        return Part("switch_curves", what, tally=tally.times(seeds).called(names))

    def _evaluated(self, rehearsal: Rehearsal) -> tuple[list[EvaluatedPlan], str]:
        """Plans, and whose schedules are among them."""
        p, chosen = self.p, self.found("chosen_schedules")
        patience = p.early_exit.exit_patience
        of = (p.evaluation, self.evaluation_bank, p.switch_search.backbones, self.noise, patience, p.ase)
        if chosen is not None:
            try:
                return evaluated_plans(chosen, *of), "with what the last search chose"
            except (InputError, KeyError):  # of other networks than there are now
                pass
        return evaluated_plans(rehearsal.chosen, *of), "about: as many schedules as an earlier search chose"

    def _blocks(self, evaluated: list[EvaluatedPlan], n_images: int) -> Tally:
        tally = judged(tally_of(self.evaluation_bank, [one.plan for one in evaluated], n_images, self.size))
        return tally.times(len(self.p.evaluation.seeds)).called(self.decoders)

    def _timed(self, evaluated: list[EvaluatedPlan]) -> Tally:
        """Images are not measured, only timed, on one device. Runs are counted by having them counted."""
        runs = Counting()
        time_in_turns({"": runs}, TIMED_RUNS)
        profiled = Counting()
        profile_in_turns({"": profiled}, TIMED_RUNS)
        bank, tally = self.evaluation_bank, Tally()
        timed = [one for one in evaluated if one.timed]
        alone = [next(one.plan for one in timed if one.role == role) for role in ("deep", "shallow")]
        for images in self.p.evaluation.timed_batches:
            for plans, run in (([one.plan for one in timed], runs), (alone, profiled)):
                tally.add(replace(tally_of(bank, plans, images, images).times(run.count), drawn_images=0))
        return tally.called(self.decoders)


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
