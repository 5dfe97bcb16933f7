"""Every network of an experiment, as far as it is there: without weights, going on, or finished."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..analysis.clustering import Edges, uniform_timestep_edges
from ..config import Backbone, Multistage, Parameters
from ..errors import InputError
from ..networks.files import NetworkHeader, StoredNetwork
from ..pipelines.early_exit.nodes import untrained_exits
from ..pipelines.multistage.training import edges_beforehand, untrained_stages
from ..pipelines.stage_training.ase import untrained_ase
from ..pipelines.trained import NETWORK, RESULT, Untrained, training_gmacs, training_work
from ..pipelines.training.nodes import take_backbone, take_checkpoint, untrained_backbone
from ..training.batches import StageBatches
from ..training.fit import newest_step
from .images import UNKNOWN, Found, KnownImages

EXITS, ASE = "early_exits", "ase"


@dataclass(frozen=True)
class PlannedNetwork(StoredNetwork):
    """A network that is not trained yet: its weights have shapes alone, and `sha256` belongs to nothing."""

    name: str = ""

    @property
    def sha256(self) -> str:
        return f"{self.name} is not trained yet"


@dataclass(frozen=True)
class PlannedTraining:
    """One network and what its training comes to.

    name: in the catalog; pipeline: that makes it; stored: the network, itself where it is finished; new: what is to be
    trained, None where the network is taken from a file; done_steps: of earlier runs, that are not made again; kept:
    steps at which it is kept beside the last; batches: of stages.
    """

    name: str
    pipeline: str
    stored: StoredNetwork
    new: Untrained | None
    done_steps: int = 0
    kept: tuple[int, ...] = ()
    batches: StageBatches | None = None

    @property
    def header(self) -> NetworkHeader:
        return self.new.header if self.new else self.stored.header

    @property
    def steps(self) -> int:
        return self.header.step

    @property
    def batch_images(self) -> int:
        batch_images: int = self.header.training["batch_images"]
        return batch_images

    @property
    def gmacs(self) -> float:
        """Of the whole training; 0 of a network that is taken from a file."""
        return training_gmacs(replace(self.stored, header=self.new.header)) if self.new else 0.0

    @property
    def finished(self) -> bool:
        return self.done_steps == self.steps


@dataclass(frozen=True)
class Networks:
    """trainings: by name, in the order of a run; missing: files that are named but not there, or do not fit; assumed:
    what is only known later, and was taken for granted; edges: between the stages of multistage networks.
    """

    trainings: Mapping[str, PlannedTraining]
    missing: tuple[str, ...]
    assumed: tuple[str, ...]
    edges: Mapping[str, list[float]]

    def stored(self, name: str) -> StoredNetwork:
        return self.trainings[name].stored


def planned_networks(p: Parameters, images: KnownImages, work_folder: Path, found: Found) -> Networks:
    """What stands in `work_folder` of these trainings is looked up, and neither made nor changed."""
    trainings: dict[str, PlannedTraining] = {}
    missing: list[str] = []
    assumed: list[str] = []

    examples = images.examples

    def add(name: str, pipeline: str, build: Callable[[], Untrained]) -> None:
        with torch.device("meta"):
            new = build()
        trainings[name] = _looked_up(name, pipeline, new, p, images, work_folder)

    for name in [*(n for n, b in p.backbones.items() if not b.stage), *p.first_stage]:
        backbone = p.backbones[name]
        stage, pipeline = backbone.stage, "stage_training" if backbone.stage else "training"
        lowest = 0
        if stage is not None:
            suggested = found("loss_gap_switches")
            if stage.edge is None and suggested is None:
                assumed.append(f"the stage of {name} ends where the loss gap says: taken for the middle timestep")
                suggested = [{"steps": 1, "k": 1, "timestep_edge": p.noise.timesteps / 2 + stage.margin}]
            lowest = stage.lowest(suggested or [])
        teacher = trainings[stage.teacher].stored if stage and stage.teacher else None
        of_all = (p.training, p.noise, p.hardware, p.seed, name, lowest, teacher)
        build = _builder(backbone, images, of_all)
        if backbone.taken_from is None:
            add(name, pipeline, build)
        else:
            trainings[name] = _taken(name, backbone, p, images, build, missing)

    exits_of = trainings[p.early_exit.backbone].stored
    shared = (p.training, p.hardware, p.seed)
    add(EXITS, "early_exit", lambda: untrained_exits(exits_of, examples, p.early_exit, *shared))
    if (ase := p.ase) is not None:
        table = found("exit_table") if ase.threshold is not None else None
        if ase.threshold is not None and table is None:
            assumed.append("ase follows where early exits leave, which is not known yet: taken for the table demo")
            ase = ase.model_copy(update={"schedule": "demo", "threshold": None})
        tuned_from = trainings[ase.backbone].stored
        add(ASE, "stage_training", lambda: untrained_ase(tuned_from, examples, ase, *shared, exit_table=table))
    edges: dict[str, list[float]] = {}
    if p.multistage is not None:
        edges = _stage_edges(p, p.multistage, found, assumed)
        trainings |= _stages(p, p.multistage, edges, images, work_folder)
    return Networks(trainings, tuple(missing), tuple(assumed), edges)


def _builder(backbone: Backbone, images: KnownImages, of_all: tuple) -> Callable[[], Untrained]:  # type: ignore[type-arg]
    return lambda: untrained_backbone(backbone, images.examples, *of_all)


def _looked_up(
    name: str,
    pipeline: str,
    new: Untrained,
    p: Parameters,
    images: KnownImages,
    work_folder: Path,
    kept: tuple[int, ...] = (),
    batches: StageBatches | None = None,
) -> PlannedTraining:
    """With what the work folder holds of it."""
    work = training_work(name, new.header, images.examples, p.hardware, new.inputs, work_folder, kept, look=True)
    stored: StoredNetwork = PlannedNetwork(copy.deepcopy(new.network), _of_any_images(new.header), name)
    done = newest_step(work.folder)
    if work.remembers(RESULT, work.folder / NETWORK):
        finished = StoredNetwork.load(work.folder / NETWORK)
        stored, done = replace(finished, header=_of_any_images(finished.header)), new.header.step
    return PlannedTraining(name, pipeline, stored, new, done, kept, batches)


def _taken(
    name: str,
    backbone: Backbone,
    p: Parameters,
    images: KnownImages,
    build: Callable[[], Untrained],
    missing: list[str],
) -> PlannedTraining:
    """From its file; where that is missing or does not fit, what the parameters say of it."""
    key = "from_checkpoint.path" if backbone.from_checkpoint else "file"
    path = Path(backbone.taken_from or "").expanduser()
    try:
        if not path.is_file():
            raise InputError(f"backbones.{name}.{key}: there is no file {path}")
        if backbone.from_checkpoint:
            stored, _, _ = take_checkpoint(backbone, images.examples, p.noise, name)
        else:
            examples = images.examples
            if examples.sha256 == UNKNOWN:
                examples = replace(examples, identity=StoredNetwork.load(path).header.data_sha256 or "")
            stored, _, _ = take_backbone(backbone, examples, name)
    except InputError as error:
        missing.append(str(error))
        with torch.device("meta"):
            new = build()
        stored = PlannedNetwork(new.network, new.header, name)
    return PlannedTraining(name, "training", replace(stored, header=_of_any_images(stored.header)), None)


def _stage_edges(p: Parameters, settings: Multistage, found: Found, assumed: list[str]) -> dict[str, list[float]]:
    schedule, known = p.noise.schedule(), found("multistage_edges") or {}

    def edges_of(name: str) -> Edges:
        edges = edges_beforehand(settings, name, schedule)
        if edges is None:
            stages = len(settings.networks[name].decoder_widths)
            edges = tuple(known.get(name, ()))
            if len(edges) != stages - 1:
                known_by = "a search" if name == settings.searched else "the images"
                assumed.append(f"the edges of {name} follow from {known_by}: taken for uniform ones")
                edges = uniform_timestep_edges(schedule, stages)
        return edges

    return {name: list(edges_of(name)) for name in settings.networks}


def _stages(
    p: Parameters, settings: Multistage, edges: dict[str, list[float]], images: KnownImages, work_folder: Path
) -> dict[str, PlannedTraining]:
    """Of every network and seed."""
    trainings = {}
    for name in settings.networks:
        for seed in settings.seeds:
            with torch.device("meta"):
                new, batches, kept = untrained_stages(
                    edges, images.examples, settings, p.training, p.noise, p.hardware, name, seed
                )
            full = f"{name}_{seed}"
            trainings[full] = _looked_up(full, "multistage_training", new, p, images, work_folder, tuple(kept), batches)
    return trainings


def _of_any_images(header: NetworkHeader) -> NetworkHeader:
    """So that networks of images that nobody has yet go together."""
    return replace(header, data_sha256=None)
