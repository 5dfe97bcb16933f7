"""Every mistake ends with status 1 and one line that says what is wrong, and leaves nothing half-written."""

import gzip
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from . import bad_input as bad
from .conftest import PROJECT, Project
from .forked_kedro import ForkedKedro

AGAIN = "delete it and run the pipeline that makes it again"
DAMAGED = f"is damaged, its content does not have the sha256 that it states: {AGAIN}"
NO_CHECKPOINT = "is damaged or no checkpoint of this training: delete it, and it begins anew"
DEEP = "{project}/data/06_models/test/deep.safetensors"
CHOSEN = "data/07_model_output/test/chosen_schedules.json"
CHOSEN_EARLY = {"solver": "ddim", "steps": 2, "history": "carried", "edges": [40.0], "serves": ["early", "deep"]}
RECORDS = "data/08_reporting/test/records.json"
TABLE = "data/07_model_output/test/exit_table.parquet"
PACKS = ("data/03_primary/test/train.safetensors", "data/03_primary/test/held_out.safetensors")
IDX = "data_preparation.source=idx,data_preparation.folder=idx"
PHOTOS = (
    "--pipelines data_preparation --params data_preparation.source=image_folder,data_preparation.folder=photos,"
    "data_preparation.image_size=8"
)
# weights grow tenfold a step until they overflow
EXPLODES = "training.learning_rate=0.1,training.weight_decay=100,training.warmup_steps=0"


@dataclass(frozen=True)
class Mistake:
    """One row: the arguments of `kedro run` and the message they end in.

    message: {project} stands for the folder, other names for what `broken` returns; broken: what is done to the project
    before; finished: whether the whole experiment has run in it, else it holds no data; begun: whether work may have
    begun, which is told in log lines; leaves: patterns of new files, all of them whole; file_bytes: the size at which
    the file system is full.
    """

    arguments: str
    message: str
    broken: bad.Break = bad.nothing
    finished: bool = False
    begun: bool = False
    leaves: tuple[str, ...] = ()
    file_bytes: int | None = None


def before(arguments: str, message: str, broken: bad.Break = bad.nothing, finished: bool = False) -> Mistake:
    """A mistake that is found before any work."""
    return Mistake(arguments, message, broken, finished)


def after(arguments: str, message: str, broken: bad.Break = bad.nothing, *leaves: str, **options: Any) -> Mistake:
    """A mistake that only the work itself brings to light, in a finished experiment."""
    return Mistake(arguments, message, broken, **{"finished": True, "begun": True, "leaves": leaves, **options})


def first_fid(records: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    return next(record for record in records if record["name"] == "fid" and wanted(record))


def k_beyond_nfe(records: list[dict[str, Any]]) -> dict[str, Any]:
    record = first_fid(records, lambda record: record["k"] is not None)
    record["k"] = record["nfe"] + 1
    return {"denoiser": record["denoiser"], "k": record["k"], "nfe": record["nfe"]}


def other_n(records: list[dict[str, Any]]) -> dict[str, Any]:
    baseline = records[0]["denoiser"]
    record = first_fid(records, lambda record: record["denoiser"] != baseline)
    record["n_generated"] *= 2
    return {"baseline": baseline, "denoiser": record["denoiser"]}


EXTRACTOR = "metric_reference.extractor"
MISTAKES = {
    # keys, in files and on the command line
    "unknown key in a file": before(
        "", "parameters: noise.steps: unknown parameter; here stand kind, timesteps", bad.replaced("timesteps", "steps")
    ),
    "unknown section": before(
        "--params serch.n_trials=5",
        "parameters: serch: unknown parameter; here stand ase, backbones, data_preparation, early_exit, evaluation, "
        "exit_statistics, hardware, loss_gap, metric_reference, multistage, noise, sampling, seed, switch_curves, "
        "switch_search, timestep_clustering, training",
    ),
    "mistyped key on the command line": before(
        "--params hardware.thread=1",
        "parameters: hardware.thread: unknown parameter; here stand accelerator, channels_last, compile, devices, "
        "gradient_accumulation, gradient_checkpointing, precision, threads",
    ),
    "mistyped key of a backbone": before(
        "",
        "parameters: backbones.deep.widht: unknown parameter; here stand depth, file, from_checkpoint, heads, kind, "
        "patch, stage, steps, width",
        bad.replaced("deep: {width", "deep: {widht"),
    ),
    "unknown global": before(
        "",
        "globals: experimnt: unknown parameter; here stand duration, experiment",
        bad.added("experimnt: mine\n", "conf/test/globals.yml"),
    ),
    "experiment that leads out of data": before(
        "",
        "globals: experiment: String should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$', not '../../mine'",
        bad.replaced("experiment: test", "experiment: ../../mine", "conf/test/globals.yml"),
    ),
    "broken YAML": before(
        "",
        "{project}/conf/test/parameters.yml, line 2: expected ',' or '}}', but got '<stream end>'",
        bad.written("conf/test/parameters.yml", "noise: {timesteps: 100\n"),
    ),
    "key twice in a file": before(
        "",
        "{project}/conf/test/parameters.yml, line 2: found duplicate key seed",
        bad.written("conf/test/parameters.yml", "seed: 1\nseed: 2\n"),
    ),
    "list for parameters": before(
        "",
        "{project}/conf/test/parameters.yml must hold keys and values, not a list",
        bad.written("conf/test/parameters.yml", "- seed\n"),
    ),
    "no configuration": before(
        "", "{project}/conf is no folder: the configuration must stand there", bad.removed("conf")
    ),
    # values
    "text for a number": before(
        "--params seed=abc",
        "parameters: seed: Input should be a valid integer, unable to parse string as an integer, not 'abc'",
    ),
    "fraction for a count": before(
        "--params early_exit.steps=1.5",
        "parameters: early_exit.steps: Input should be a valid integer, got a number with a fractional part, not 1.5",
    ),
    "number for a section": before(
        "--params noise=3", "parameters: noise: Input should be a valid dictionary or instance of Noise, not 3"
    ),
    "infinite learning rate": before(
        "--params training.learning_rate=inf",
        "parameters: training.learning_rate: Input should be a finite number, not 'inf'",
    ),
    "no tolerance": before(
        "--params loss_gap.tolerance=0",
        "parameters: loss_gap.tolerance: Input should be greater than 0, not 0",
    ),
    "curves of more steps than timesteps": before(
        "--params switch_curves.steps=[101]",
        "parameters: switch_curves.steps is 101, but there are only 100 timesteps",
    ),
    "curves of other networks": after(
        "--pipelines reporting",
        "switch_curves was measured with other networks or guidance, another reference or another number of images "
        "than the records: run the pipeline switch_curves again",
        bad.curves_of_other_networks,
    ),
    "zero trials": before(
        "--params switch_search.n_trials=0",
        "parameters: switch_search.n_trials: Input should be greater than or equal to 1, not 0",
    ),
    "zero threads": before(
        "--params hardware.threads=0",
        "parameters: hardware.threads: Input should be greater than or equal to 1, not 0",
    ),
    "all images held out": before(
        "--params data_preparation.held_out_share=1",
        "parameters: data_preparation.held_out_share: Input should be less than 1, not 1",
    ),
    "heads that do not divide the width": before(
        "--params backbones.deep.heads=3", "parameters: backbones.deep: heads 3 does not divide the width 16"
    ),
    "even depth": before(
        "--params backbones.deep.depth=4",
        "parameters: backbones.deep: depth 4 is even: a U-ViT has as many out blocks as in blocks and one between",
    ),
    "backbone that lacks keys": before(
        "--params backbones.tiny.width=8", "parameters: backbones.tiny.patch: Field required (and 3 more)"
    ),
    "backbone of a bad name": before(
        "--params backbones.Tiny.width=8",
        "parameters: backbones.Tiny.[key]: String should match pattern '^[a-z][a-z0-9_]*$', not 'Tiny' (and 4 more)",
    ),
    "unknown backbone": before(
        "--params early_exit.backbone=tiny",
        "parameters: early_exit.backbone is 'tiny', but the backbones are ['deep', 'early', 'middle', 'shallow']",
    ),
    "unknown solver": before(
        "--params evaluation.solver.name=euler",
        "parameters: evaluation.solver.name: Input should be 'ddpm', 'ddim', 'dpmsolver++1', 'dpmsolver++', "
        "'dpmsolver++3m', 'dpmsolver++2s', 'dpmsolver++3s', 'unipc', 'unipc3' or 'heun', not 'euler'",
    ),
    "steps too few for a singlestep solver": before(
        "--params evaluation.solver.name=dpmsolver++3s,evaluation.solver.steps=3",
        "parameters: evaluation.solver: dpmsolver++3s needs 4 steps or more, not 3",
    ),
    "history that is not there": before(
        "--params switch_curves.history=dropped",
        "parameters: switch_curves: ddim has no history to drop: it is no multistep solver",
    ),
    "noise for a solver that takes none": before(
        "--params evaluation.solver.eta=0.5",
        "parameters: evaluation.solver: eta 0.5 belongs to ddim, not to dpmsolver++",
    ),
    "more steps than timesteps": before(
        "--params evaluation.solver.steps=101",
        "parameters: evaluation.solver.steps is 101, but there are only 100 timesteps",
    ),
    "schedule that reaches no noise": before(
        "--params noise.kind=linear,noise.timesteps=20",
        "parameters: noise: a linear noise schedule needs more than 20 timesteps, not 20",
    ),
    "thresholds that repeat": before(
        "",
        "parameters: exit_statistics.thresholds: 0.3 stands twice in [0.3, 0.3]",
        bad.replaced("[0.3, 0.5]", "[0.3, 0.3]"),
    ),
    "seed blocks that repeat": before(
        "",
        "parameters: evaluation.seeds: 7 stands twice in [7, 7, 8, 9, 10]",
        bad.replaced("seeds: [101, 102, 103, 104, 105]", "seeds: [7, 7, 8, 9, 10]"),
    ),
    "too few seed blocks": before(
        "",
        "parameters: evaluation.seeds: Tuple should have at least 5 items after validation, not 3",
        bad.replaced("seeds: [101, 102, 103, 104, 105]", "seeds: [7, 8, 9]"),
    ),
    "seed that was searched with": before(
        "--params switch_search.seed=101",
        "parameters: evaluation.seeds must be fresh: none may equal switch_search.seed, which is 101",
    ),
    # the command line
    "parameter without value": before(
        "--params seed",
        "Invalid format of `params` option: Item `seed` must contain a key and a value separated by `=`.",
    ),
    "unknown option": before("--frobnicate", "No such option '--frobnicate'."),
    "options from a file that has none": before(
        "--config run.yml",
        "--config must name a YAML file with the options below the key run",
        bad.written("run.yml", "a: 1"),
    ),
    "options against one another": before(
        "--pipeline training --pipelines training", "Options '--pipeline' and '--pipelines' cannot be used together"
    ),
    "unknown pipeline": before(
        "--pipelines nope",
        "Failed to find the pipeline named 'nope'. It needs to be generated and returned by the 'register_pipelines' "
        "function.",
    ),
    "unknown node": before("--from-nodes nope", "Pipeline does not contain nodes named ['nope']."),
    "unknown tag": before(
        "--tags nope",
        "Pipeline contains no nodes after applying all provided filters. Please ensure that at least one pipeline with "
        "nodes has been defined.",
    ),
    "unknown environment": before(
        "--env nope",
        "there is no environment 'nope'; conf/ holds base, celeba64, cifar10, cifar10_multistage, digits_multistage, "
        "fashion_ase, fashion_mnist, fashion_multistage, fashion_stages, imagenet256, imagenet64, local, test",
    ),
    "unknown runner": before("--runner Nope", "module 'kedro.runner' has no attribute 'Nope'"),
    "versions of what has none": before(
        "--load-versions reference:2026-01-01T00.00.00.000Z",
        "--load-versions: nothing here is versioned by Kedro; earlier files are in DVC",
    ),
    # data
    "pipeline without its inputs": before(
        "--pipelines evaluation",
        "{project}/data/06_models/test/ase.safetensors does not exist: run the pipeline that makes ase.network first",
    ),
    "missing IDX file": after(
        f"--params {IDX}",
        "idx/t10k-labels-idx1-ubyte[.gz] is missing: data_preparation.folder must hold the four files of an "
        "MNIST-like set",
        bad.idx_folder(t10k_labels=None),
        finished=False,
    ),
    "damaged gzip": after(
        f"--params {IDX}",
        "idx/train-images-idx3-ubyte.gz cannot be read as gzip (Compressed file ended before the end-of-stream marker "
        "was reached): fetch it again",
        bad.idx_folder(train_images=gzip.compress(bytes(99))[:-12]),
        finished=False,
    ),
    "truncated IDX file": after(
        f"--params {IDX}",
        "idx/train-images-idx3-ubyte.gz announces 3240 values but holds 3140: fetch it again",
        bad.idx_folder(train_images=gzip.compress(bad.idx_bytes(np.zeros((40, 9, 9), np.uint8))[:-100])),
        finished=False,
    ),
    "fewer labels than images": after(
        f"--params {IDX}",
        "idx: 40 images but 39 labels",
        bad.idx_folder(train_labels=np.zeros(39, np.uint8)),
        finished=False,
    ),
    "images that are not square": after(
        f"--params {IDX}",
        "idx: images are 9x8, but the networks take square ones",
        bad.idx_folder(train_images=np.zeros((40, 9, 8), np.uint8)),
        finished=False,
    ),
    "held-out images of another size": after(
        f"--params {IDX}",
        "idx: training images are (1, 9, 9) (channels, height, width), but held-out ones (1, 8, 8)",
        bad.idx_folder(t10k_images=np.zeros((40, 8, 8), np.uint8)),
        finished=False,
    ),
    "no held-out image": after(
        f"--params {IDX}",
        "idx: a split has 0 images, but statistics need 2 at least",
        bad.idx_folder(t10k_images=np.zeros((0, 9, 9), np.uint8), t10k_labels=np.zeros(0, np.uint8)),
        finished=False,
    ),
    "patch that does not divide the images": after(
        f"--params {IDX}",
        "backbones.deep: patch 4 does not divide the image size 9",
        bad.idx_folder(),
        *PACKS,
        finished=False,
    ),
    # damaged and foreign files
    "flipped bit in a pack": after(
        "--pipelines training", f"{{file}} {DAMAGED}", bad.flipped("data/03_primary/test/train.safetensors")
    ),
    "truncated pack": after(
        "--pipelines training",
        f"{{file}} is no image pack file, it is damaged or no safetensors file: {AGAIN}",
        bad.truncated("data/03_primary/test/train.safetensors"),
    ),
    "flipped bit in a network": after(
        "--pipelines switch_search", f"{{file}} {DAMAGED}", bad.flipped("data/06_models/test/deep.safetensors")
    ),
    "flipped bit in the reference": after(
        "--pipelines switch_search", f"{{file}} {DAMAGED}", bad.flipped("data/04_feature/test/reference.safetensors")
    ),
    "flipped bit in a table": after(
        "--pipelines reporting", f"{{file}} is damaged or no table: {AGAIN}", bad.flipped(TABLE, 0.9999)
    ),
    "truncated table": after(
        "--pipelines reporting", f"{{file}} is damaged or no table: {AGAIN}", bad.truncated(TABLE)
    ),
    "altered table": after("--pipelines reporting", f"{{project}}/{TABLE} {DAMAGED}", bad.altered_table(TABLE)),
    "truncated JSON": after(
        "--pipelines evaluation",
        f"{{file}} is damaged, it holds no JSON (Expecting value: line 1 column 1 (char 0)): {AGAIN}",
        bad.truncated(CHOSEN, 0),
    ),
    "altered result of a training": after(
        "--pipelines training",
        "{file} is damaged: delete it, and what it held is computed anew",
        bad.edited(f"{bad.TRAIN_DEEP}/result.json", lambda stored: stored["value"].update(seconds=0.0)),
    ),
    "damaged journal of the study": after(
        "--pipelines switch_search",
        "{file} is damaged: delete it; the search begins anew with what it has measured",
        bad.flipped(bad.JOURNAL, 0),
    ),
    "extractor for a network": after(
        "--pipelines switch_search",
        f"{DEEP} holds 'feature classifier', not 'network': {AGAIN}",
        bad.copied("extractor.safetensors", "deep.safetensors"),
    ),
    "foreign network": after(
        "--pipelines switch_search", f"{DEEP} holds 'foreign', not 'network': {AGAIN}", bad.foreign_safetensors
    ),
    "network file that would execute code": after(
        "--pipelines switch_search",
        f"{DEEP} is no network file, it is damaged or no safetensors file: {AGAIN}",
        bad.executing_network,
    ),
    "checkpoint that would execute code": after(
        "--pipelines training", f"{{file}} {NO_CHECKPOINT}", bad.checkpoint(bad.executing)
    ),
    "bare pickle for a checkpoint": after(
        "--pipelines training", f"{{file}} {NO_CHECKPOINT}", bad.checkpoint(bad.executing_pickle)
    ),
    "flipped bit in a checkpoint": after(
        "--pipelines training", f"{{file}} {NO_CHECKPOINT}", bad.checkpoint(bad.flipped_weight)
    ),
    "foreign checkpoint": after(
        "--pipelines training",
        f"{{file}} {NO_CHECKPOINT}",
        bad.checkpoint(lambda path: torch.save({"weight": torch.zeros(3)}, path)),
    ),
    # files that do not belong together
    "network of other data": after(
        "--pipelines early_exit",
        "deep.network and train_images do not belong together, for their training images differ: "
        "run the pipelines that make them again",
        bad.header_changed("deep", data_sha256="0" * 64),
    ),
    "images changed after the training": after(
        "--pipelines early_exit",
        "deep.network and train_images do not belong together, for their training images differ: "
        "run the pipelines that make them again",
        bad.mirrored_training_images,
    ),
    "network of another architecture": after(
        "--pipelines switch_search",
        "deep.network was trained with backbones.deep.depth 1, but it is 5 now: train it again",
        bad.copied("shallow.safetensors", "deep.safetensors"),
    ),
    "architecture changed after the training": after(
        "--pipelines switch_search --params backbones.deep.width=32",
        "deep.network was trained with backbones.deep.width 16, but it is 32 now: train it again",
    ),
    "network of a narrower range": after(
        "--pipelines evaluation",
        "shallow.network learnt the timesteps from 50 on, but its stage says from 0 on now: train it again",
        bad.header_changed("shallow", timestep_range=(50, 100)),
    ),
    "stage changed after the training": after(
        "--pipelines switch_search --params backbones.early.stage.edge=50",
        "early.network learnt the timesteps from 55 on, but its stage says from 45 on now: train it again",
    ),
    "schedule beyond the stage of a network": after(
        "--pipelines evaluation",
        "early was trained for timesteps [55, 100), but the schedule uses it at 49",
        bad.edited(CHOSEN, lambda chosen: chosen[0].update(CHOSEN_EARLY)),
    ),
    "teacher that was trained anew": after(
        "--pipelines switch_search",
        "deep.network and early.network do not belong together, for their weights of deep differ: "
        "run the pipelines that make them again",
        bad.header_changed("early", teacher_sha256="0" * 64),
    ),
    "network file that is not there": before(
        "--pipelines training --params backbones.deep.file=nowhere.safetensors",
        "backbones.deep.file: there is no file nowhere.safetensors",
        finished=True,
    ),
    "network file of another shape": after(
        "--nodes deep.take --params backbones.deep.file=data/06_models/test/shallow.safetensors",
        "backbones.deep.depth is 5, but the network in data/06_models/test/shallow.safetensors has 1",
    ),
    "network file of another kind": after(
        "--nodes deep.take --params backbones.deep.file=data/06_models/test/middle.safetensors",
        "backbones.deep.kind is uvit, but the network in data/06_models/test/middle.safetensors has dit",
    ),
    "network file that holds no backbone": after(
        "--nodes deep.take --params backbones.deep.file=data/06_models/test/early_exits.safetensors",
        "backbones.deep.file: data/06_models/test/early_exits.safetensors holds early_exits, no backbone",
    ),
    "network file of other images": after(
        "--nodes deep.take --params backbones.deep.file=data/06_models/test/deep.safetensors",
        "backbones.deep.file: data/06_models/test/deep.safetensors was trained on other images than the run prepares",
        bad.header_changed("deep", data_sha256="0" * 64),
    ),
    "network file of a narrower range": after(
        "--pipelines early_exit --params backbones.deep.file=data/06_models/test/deep.safetensors",
        "deep.network learnt the timesteps from 50 on, but its stage says from 0 on now: say so in the parameters, or "
        "take another file than data/06_models/test/deep.safetensors",
        bad.header_changed("deep", timestep_range=(50, 100)),
    ),
    "network file of other noise": after(
        "--pipelines early_exit --params noise.kind=linear,backbones.deep.file=data/06_models/test/deep.safetensors",
        "deep.network was trained with noise.kind cosine, but it is linear now: say so in the parameters, or take "
        "another file than data/06_models/test/deep.safetensors",
    ),
    "noise changed after the training": after(
        "--pipelines early_exit --params noise.kind=linear",
        "deep.network was trained with noise.kind cosine, but it is linear now: train it again",
    ),
    "labels wanted after the training": after(
        "--pipelines loss_gap --params training.label_dropout=0.1",
        "shallow.network was trained with training.label_dropout null, but it is above 0 now: train it again",
    ),
    "official checkpoint that would execute code": after(
        "--pipelines training --params backbones.deep.from_checkpoint.path=nnet.pth,"
        "backbones.deep.from_checkpoint.steps=1,backbones.deep.from_checkpoint.batch_images=1",
        "backbones.deep.from_checkpoint: nnet.pth is damaged or holds posix.mkdir, which is not loaded: "
        "a checkpoint may hold tensors, plain values and argparse.Namespace",
        bad.executing_official_checkpoint,
    ),
    "network of another version": after(
        "--pipelines switch_search",
        f"{DEEP} was written by another version (NetworkHeader.__init__() missing 1 required positional argument: "
        "'step'): train it anew",
        bad.header_lacks("deep", "step"),
    ),
    "exits for a backbone": after(
        "--pipelines switch_search",
        "deep.network holds a network of kind early_exits, not uvit: train it again",
        bad.copied("early_exits.safetensors", "deep.safetensors"),
    ),
    "backbone that knows no exit schedule": after(
        "--pipelines switch_search",
        "ase.network was trained for no exit schedule: train it again",
        bad.copied("deep.safetensors", "ase.safetensors"),
    ),
    "exit schedule changed after the training": after(
        "--pipelines switch_search --params ase.schedule=heavy",
        "ase.network was trained with ase.schedule demo, but it is heavy now: train it again",
    ),
    "exits of another variant": after(
        "--pipelines exit_statistics --params early_exit.variant=authors",
        "early_exits.network holds a network of kind early_exits, not shared_exits: train it again",
    ),
    "exits of another backbone": after(
        "--pipelines exit_statistics",
        "the early exits do not belong to this deep: train them anew",
        bad.header_changed("early_exits", backbone_sha256="0" * 64),
    ),
    "reference of another extractor": after(
        "--pipelines switch_search",
        "extractor and reference do not belong together, for their feature extractors differ: "
        "run the pipelines that make them again",
        bad.other_extractor,
    ),
    "extractor of another sha256": after(
        f"--pipelines metric_reference --params {EXTRACTOR}.path=inception.pt,{EXTRACTOR}.sha256={'ab' * 32}",
        f"inception.pt has the sha256 {{found}}, not {'ab' * 32}",
        bad.extractor_file,
    ),
    # results edited by hand
    "chosen schedule that lacks its solver": after(
        "--pipelines evaluation",
        "chosen_schedules: 0: solver: Field required, not {{'steps': 2}}",
        bad.edited(CHOSEN, lambda chosen: chosen.__setitem__(0, {"steps": 2})),
    ),
    "chosen schedule of an unknown backbone": after(
        "--pipelines evaluation",
        "there is no backbone 'deeep'; "
        "there are ['ase', 'deep', 'early', 'middle', 'multistage', 'searched', 'shallow']",
        bad.edited(CHOSEN, lambda chosen: chosen[0].update(edges=[50], serves=["shallow", "deeep"])),
    ),
    "edges out of order": after(
        "--pipelines evaluation",
        "edges [20.0, 60.0] must descend: stages are ordered from noise to data",
        bad.edited(CHOSEN, lambda chosen: chosen[0].update(edges=[20.0, 60.0], serves=["shallow", "middle", "deep"])),
    ),
    "edge beyond the timesteps": after(
        "--pipelines evaluation",
        "edges [120.0] must lie within 0..100",
        bad.edited(CHOSEN, lambda chosen: chosen[0].update(edges=[120.0], serves=["shallow", "deep"])),
    ),
    "switch beyond the evaluations": after(
        "--pipelines reporting",
        "records: {denoiser}: the record: switch k {k} is beyond the {nfe} evaluations",
        bad.edited(RECORDS, k_beyond_nfe),
    ),
    "records that do not compare": after(
        "--pipelines reporting",
        "records of {baseline} and {denoiser} do not compare: n_generated is 32 and 64",
        bad.edited(RECORDS, other_n),
    ),
    # what the system refuses
    "no space for a pack": after(
        "--pipelines data_preparation",
        f"{{project}}/{PACKS[0]} cannot be written: File too large",
        finished=False,
        file_bytes=20_000,
    ),
    "no space for a checkpoint": after(
        "--pipelines training",
        "{file}/4.ckpt cannot be written: File too large",
        bad.training_removed,
        file_bytes=100_000,
    ),
    "no space for a network": after(
        "--pipelines training",
        f"{DEEP} cannot be written: File too large",
        bad.removed("data/06_models/test/deep*"),
        file_bytes=50_000,
    ),
    "no space for a table": after(
        "--pipelines exit_statistics",
        f"{{project}}/{TABLE} cannot be written: File too large",
        bad.removed(TABLE),
        file_bytes=3_000,
    ),
    "no space for the journal": after(
        "--pipelines switch_search",
        "{file} cannot be written: File too large",
        bad.study_removed,
        bad.JOURNAL,
        file_bytes=10_000,
    ),
    "folder where a pack should be": after(
        "--pipelines data_preparation",
        f"{{project}}/{PACKS[0]} cannot be written: Is a directory",
        bad.folder_instead(PACKS[0]),
        finished=False,
    ),
    "folder where an input should be": before(
        "--pipelines reporting",
        f"{{project}}/{RECORDS} is a folder, where a file should be: remove it and run the pipeline that makes records",
        bad.folder_instead(RECORDS),
        finished=True,
    ),
    "folder where the journal should be": after(
        "--pipelines switch_search", "{file}: Is a directory", bad.folder_instead(bad.JOURNAL)
    ),
    "file where data should be": after(
        "", "{project}/data/.work/test/lock cannot be written: Not a directory", bad.written("data", ""), finished=False
    ),
    "corrupt image in a folder": after(
        PHOTOS,
        "photos/image_05.png cannot be read as an image (cannot identify image file 'photos/image_05.png'): mend or "
        "remove it",
        bad.image_folder(image_05=b"no image"),
        finished=False,
    ),
    "image too small": after(
        PHOTOS,
        "1 of 16 images smaller than image_size 8, the first photos/image_05.png (4x4): remove them or lower "
        "data_preparation.image_size",
        bad.image_folder(image_05=Image.new("L", (4, 4))),
        finished=False,
    ),
    "oblong image that is not cropped": after(
        f"{PHOTOS},data_preparation.crop=none",
        "1 of 16 images not square, the first photos/image_05.png (16x12): cut them square or set "
        "data_preparation.crop: centre",
        bad.image_folder(image_05=Image.new("RGB", (16, 12))),
        finished=False,
    ),
    # trainings
    "no GPU": before(
        "--params hardware.accelerator=gpu", "hardware.accelerator is gpu, but this machine has none that PyTorch finds"
    ),
    "precision that a CPU lacks": before(
        "--params hardware.precision=16-mixed",
        "parameters: hardware: precision 16-mixed needs a GPU: on the CPU there are 32-true and bf16-mixed",
    ),
    "shares of a batch that are not equal": before(
        "--params hardware.gradient_accumulation=3",
        "parameters: training.batch_images is 16, no multiple of hardware.devices 1 times "
        "hardware.gradient_accumulation 3",
    ),
    "loss that is not finite": after(
        f"--pipelines training --params {EXPLODES}",
        "the loss is nan at training step 6: lower the learning rate; {new} keeps the weights of step 4",
        bad.nothing,
        f"{bad.TRAIN_DEEP}/4.ckpt",
    ),
    "weights that are not finite": after(
        f"--pipelines training --params {EXPLODES},training.checkpoint_every_steps=5",
        "the weights are not finite after training step 5: lower the learning rate; no weights had been kept yet",
    ),
}


REAL = ("unknown section", "unknown option", "flipped bit in a pack")  # by the `kedro` executable, too
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def kedro() -> Iterator[ForkedKedro]:
    forked = ForkedKedro(PROJECT, Project(PROJECT).environment)
    yield forked
    forked.close()


def make_project(root: Path, finished: Project, with_data: bool = True) -> Project:
    """What a run needs beside the installed package, and the data of the finished experiment."""
    for name in ("conf", *(["data"] if with_data else [])):
        shutil.copytree(finished.root / name, root / name)
    for name in ("pyproject.toml", ".telemetry", "mlflow.db"):
        shutil.copy(finished.root / name, root)
    (root / "src").mkdir()
    return Project(root)


def arguments_of(mistake: Mistake) -> list[str]:
    return ["run", *([] if "--env" in mistake.arguments else ["--env", "test"]), *mistake.arguments.split()]


def files(project: Path) -> dict[str, str]:
    """sha256 of every file but those of MLflow, of the test, and the lock."""
    of_mlflow = ("mlartifacts", "mlflow_missing")
    found = (path for path in project.rglob("*") if path.is_file() and path.parts[len(project.parts)] not in of_mlflow)
    kept = (path for path in found if not path.name.startswith(("mlflow.db", "stdout", "stderr", "lock")))
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(mistake, id=name, marks=needs_no_gpu if name == "no GPU" else ())
        for name, mistake in MISTAKES.items()
    ],
)
def test_a_mistake_ends_in_one_line(mistake: Mistake, tmp_path: Path, finished: Project, kedro: ForkedKedro) -> None:
    project = make_project(tmp_path, finished, mistake.finished)
    named = mistake.broken(project.root) or {}
    there = files(project.root)

    result = kedro.run(project.root, *arguments_of(mistake), file_bytes=mistake.file_bytes)

    left = files(project.root)
    new = sorted(left.keys() - there.keys())
    named = {"project": project.root, "new": project.root / new[0] if new else None, **named}
    *progress, last = result.stderr.splitlines()
    assert last == f"Error: {mistake.message.format(**named)}"
    assert (result.returncode, result.stdout) == (1, "")
    assert [line for line in progress if not re.match(r"\d\d:\d\d:\d\d \S", line)] == []
    assert mistake.begun or not progress
    assert {name: left.get(name) for name in there} == there
    assert [name for name in new if not any(Path(name).match(pattern) for pattern in mistake.leaves)] == []
    assert not (project.root / "EXECUTED").exists()


@pytest.mark.parametrize("name", REAL)
def test_the_executable_says_the_same(name: str, tmp_path: Path, finished: Project) -> None:
    mistake, project = MISTAKES[name], make_project(tmp_path, finished)
    named = mistake.broken(project.root) or {}
    result = project.run("kedro", *arguments_of(mistake), PYTHONPATH=str(PROJECT / "src"))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"Error: {mistake.message.format(project=project.root, **named)}"


def test_dvc_is_not_started_with_broken_configuration(tmp_path: Path, finished: Project, kedro: ForkedKedro) -> None:
    project = make_project(tmp_path, finished, with_data=False)
    bad.written("conf/base/globals.yml", "experiment: a\nexperiment: b\n")(project.root)
    result = kedro.run(project.root, "repro")
    message = f"Error: {project.root}/conf/base/globals.yml, line 2: found duplicate key experiment\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", message)


@pytest.mark.parametrize(
    ("name", "mended", "result"),
    [
        ("no space for a checkpoint", bad.nothing, "data/06_models/test/deep.safetensors"),
        ("no space for the journal", bad.nothing, "data/08_reporting/test/trials.parquet"),
        ("damaged journal of the study", bad.removed(bad.JOURNAL), "data/08_reporting/test/trials.parquet"),
        (
            "checkpoint that would execute code",
            bad.removed(f"{bad.TRAIN_DEEP}/*.ckpt"),
            "data/06_models/test/deep.safetensors",
        ),
        (
            "altered result of a training",
            bad.removed(f"{bad.TRAIN_DEEP}/result.json"),
            "data/06_models/test/deep_training_curve.json",
        ),
    ],
)
def test_what_is_mended_goes_on_to_the_same_result(
    name: str, mended: bad.Break, result: str, tmp_path: Path, finished: Project, kedro: ForkedKedro
) -> None:
    mistake, project = MISTAKES[name], make_project(tmp_path, finished)
    expected = (project.root / result).read_bytes()
    mistake.broken(project.root)
    assert kedro.run(project.root, *arguments_of(mistake), file_bytes=mistake.file_bytes).returncode == 1
    mended(project.root)
    (project.root / result).unlink()
    again = kedro.run(project.root, *arguments_of(mistake))
    assert again.returncode == 0, again.stderr
    assert (project.root / result).read_bytes() == expected


def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(
    tmp_path: Path, finished: Project, kedro: ForkedKedro
) -> None:
    mistake, project = MISTAKES["loss that is not finite"], make_project(tmp_path, finished)
    there = set(project.root.glob(f"{bad.TRAIN_DEEP}/*.ckpt"))
    assert kedro.run(project.root, *arguments_of(mistake)).returncode == 1
    (kept,) = set(project.root.glob(f"{bad.TRAIN_DEEP}/*.ckpt")) - there
    checkpoint = torch.load(kept, weights_only=True)
    assert checkpoint["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
