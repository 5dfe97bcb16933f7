"""The typed parameters: what is wrong is refused whole, with one line that names it."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from kedro.config import OmegaConfigLoader

from duodiff_pipeline.config import Parameters, Settings, Stage, validate
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.decoding import Decoding
from duodiff_pipeline.networks.unet import UNet, UNetConfig

CONF = Path(__file__).parents[1] / "conf"


def _parameters(env: str) -> dict[str, Any]:
    strategy = {"parameters": "soft"}
    return OmegaConfigLoader(str(CONF), env, base_env="base", default_run_env="base", merge_strategy=strategy)[
        "parameters"
    ]


@pytest.mark.parametrize("env", ["base", "test", "cifar10", "fashion_ase", "fashion_mnist", "fashion_stages"])
def test_every_environment_is_valid(env: str) -> None:
    assert validate(_parameters(env)).early_exit.backbone in validate(_parameters(env)).backbones


def test_an_environment_overrides_single_nested_keys() -> None:
    assert _parameters("test")["backbones"]["deep"] == {"patch": 4, "width": 16, "depth": 5, "heads": 2, "steps": 12}


@pytest.mark.parametrize(
    ("variant", "patience", "passed_by"),
    [("duodiff", None, 0), ("authors", None, 1), ("authors", 0, 0), ("duodiff", 3, 3)],
)
def test_patience_is_that_of_the_variant_unless_it_is_given(variant: str, patience: int | None, passed_by: int) -> None:
    raw = _parameters("base")
    raw["early_exit"] |= {"variant": variant, "patience": patience}
    assert validate(raw).early_exit.exit_patience == passed_by


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("switch_search.n_trials", 0, "switch_search.n_trials: Input should be greater than or equal to 1, not 0"),
        ("switch_search.n_trials", "many", "switch_search.n_trials: Input should be a valid integer, unable to parse"),
        (
            "switch_search.ntrials",
            5,
            "switch_search.ntrials: unknown parameter; here stand backbones, budget_trials, budgets, by_parts, ",
        ),
        (
            "switch_search.backbones",
            ["shallow", "medium", "deep"],
            "switch_search.backbones names 'medium', but the backbones are ['deep', 'middle', 'shallow']",
        ),
        (
            "switch_search.backbones",
            ["shallow", "deep", "shallow"],
            "switch_search.backbones: shallow stands twice in ['shallow', 'deep', 'shallow']",
        ),
        ("switch_search.backbones", ["deep"], "switch_search.backbones: Tuple should have at least 2 items"),
        ("backbones.deep.depth", 4, "backbones.deep: depth 4 is even"),
        ("backbones.deep.heads", 5, "backbones.deep: heads 5 does not divide the width 128"),
        ("evaluation.seeds", [1, 2, 3], "evaluation.seeds: Tuple should have at least 5 items"),
        ("evaluation.seeds", [7, 7, 8, 9, 10], "evaluation.seeds: 7 stands twice in [7, 7, 8, 9, 10]"),
        ("evaluation.seeds", [2, 7, 8, 9, 10], "evaluation.seeds must be fresh: none may equal switch_search.seed"),
        (
            "evaluation.more_metrics",
            ["recal"],
            "evaluation.more_metrics.0: Input should be 'fid_infinity', 'precision'",
        ),
        ("evaluation.images", 7, "evaluation: images is 7, but fid_infinity needs at least 8 a block"),
        ("evaluation.timed_batches", [16, 0], "evaluation.timed_batches.1: Input should be greater than or equal to 1"),
        (
            "metric_reference.extractor",
            {"sha256": "a" * 64},
            "metric_reference.extractor: either path or url says where the file is",
        ),
        ("metric_reference.extractor", {"path": "inception.pt"}, "metric_reference.extractor.sha256: Field required"),
        (
            "metric_reference.extractor",
            {"url": "inception.pt", "sha256": "a" * 64},
            "metric_reference.extractor.url: String should match pattern '^(https?|file)://', not 'inception.pt'",
        ),
        (
            "metric_reference.reference",
            "published",
            "metric_reference: reference is held_out, train or the path of an .npz file, not 'published'",
        ),
        (
            "evaluation.middle",
            "medium",
            "evaluation.middle is 'medium', but the backbones are ['deep', 'middle', 'shallow']",
        ),
        ("early_exit.variant", "deediff", "early_exit.variant: Input should be 'duodiff' or 'authors', not 'deediff'"),
        ("early_exit.probe", "mlp", "early_exit.probe: Input should be 'linear' or 'attention', not 'mlp'"),
        ("early_exit.patience", -1, "early_exit.patience: Input should be greater than or equal to 0, not -1"),
        ("noise.kind", "sigmoid", "noise.kind: Input should be 'linear' or 'cosine', not 'sigmoid'"),
        (
            "data_preparation.folder",
            "x",
            "data_preparation: folder is needed for the sources idx, cifar10 and image_folder, and only there",
        ),
        (
            "data_preparation.crop",
            "none",
            "data_preparation: crop belongs to the sources image_folder and hub, not to digits",
        ),
        (
            "switch_curves.solver",
            "dpmsolver++4s",
            "switch_curves.solver: Input should be 'ddpm', 'ddim', 'dpmsolver++1', ",
        ),
        ("switch_curves.history", "dropped", "switch_curves: ddim has no history to drop: it is no multistep solver"),
        ("switch_search.history", [], "switch_search.history: Tuple should have at least 1 item"),
        ("switch_search.history", ["carried", "carried"], "switch_search.history: carried stands twice"),
        ("sampling.guidance", -1.0, "sampling.guidance: a scale is a number from 0 on, for all backbones or by name"),
        ("sampling.guidance", {"deep": "two"}, "sampling.guidance: a scale is a number from 0 on"),
        ("sampling.guidance", {"huge": 1.0}, "sampling.guidance names 'huge', but the networks are"),
        ("sampling.guidance", {"deep": 2.0}, "sampling.guidance other than 1 needs training.label_dropout above 0"),
        ("training.label_dropout", 1.0, "training.label_dropout: Input should be less than 1, not 1.0"),
        ("training.ema_decay", 1.0, "training.ema_decay: Input should be less than 1, not 1.0"),
        ("ase.steps", 0, "ase.steps: Input should be greater than or equal to 1, not 0"),
        ("ase.step", 5, "ase.step: unknown parameter; here stand backbone, candidates, depths, "),
        ("ase.solvers", [{"name": "ddim", "stps": 5}], "ase.solvers.0.steps: Field required"),
        ("ase.solvers", [{"name": "ddim", "steps": 5, "s": 5}], "ase.solvers.0.s: unknown parameter; here stand eta"),
        ("ase.solvers", [], "ase.solvers: Tuple should have at least 1 item"),
        ("ase.solvers", [{"name": "ddim", "steps": 1001}], "ase.solvers.steps is 1001, but there are only 1000"),
        ("ase.schedule", "d3", "ase.schedule: Input should be 'demo', 'light', 'heavy', 'exit_statistics' or 'depths'"),
        ("ase.schedule", "depths", "ase: depths is needed for the schedule depths, and only there"),
        ("ase.schedule", "exit_statistics", "ase: threshold is needed for the schedule exit_statistics, and only"),
        ("ase.depths", [5, 4], "ase: depths is needed for the schedule depths, and only there"),
        ("ase.backbone", "deeep", "ase.backbone is 'deeep', but the backbones are ['deep', 'middle', 'shallow']"),
        ("backbones.deep.kind", "unet", "backbones.deep.kind: Input should be 'uvit' or 'dit', not 'unet'"),
        ("backbones.deep.stage", {"egde": 5}, "backbones.deep.stage.edge: Field required"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(key: str, value: Any, message: str) -> None:
    raw = deepcopy(_parameters("base"))
    *sections, last = key.split(".")
    section = raw
    for name in sections:
        section = section[name]
    section[last] = value
    with pytest.raises(InputError) as caught:
        validate(raw)
    assert str(caught.value).startswith(f"parameters: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solvers": ["ddim", "dpmsolver++3s"], "steps": [20, 3]}, "dpmsolver++3s needs 4 steps or more, not 3"),
        (
            {"solvers": ["ddim", "heun"], "history": ["carried", "dropped"]},
            "history cannot be dropped: none of ['ddim', 'heun'] is a multistep solver",
        ),
    ],
)
def test_a_search_is_refused_where_a_solver_cannot_do_what_is_asked(change: dict[str, Any], message: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["switch_search"].update(change)
    with pytest.raises(InputError) as caught:
        validate(raw)
    assert str(caught.value) == f"parameters: switch_search: {message}"


def test_a_search_takes_solvers_of_every_kind() -> None:
    raw = deepcopy(_parameters("base"))
    raw["switch_search"].update(solvers=["ddpm", "unipc3", "dpmsolver++2s", "heun"], history=["carried", "dropped"])
    raw["switch_curves"].update(solver="dpmsolver++", history="dropped")
    assert {solver.label for solver in validate(raw).switch_curves.solvers()} == {"dpmsolver++ history dropped"}


def test_more_stages_than_timesteps_to_cluster_are_refused() -> None:
    raw = deepcopy(_parameters("base"))
    names = [f"network_{i}" for i in range(5)]
    raw["backbones"] |= dict.fromkeys(names, raw["backbones"]["deep"])
    raw["switch_search"]["backbones"], raw["timestep_clustering"]["nodes"] = names, 4
    with pytest.raises(InputError, match=r"nodes is 4, too few for the 5 stages of switch_search\.backbones"):
        validate(raw)


FOLDER = {"source": "image_folder", "folder": "photos", "image_size": 32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"folder": None},
            "data_preparation: folder is needed for the sources idx, cifar10 and image_folder, and only there",
        ),
        ({"image_size": None}, "data_preparation: image_size is needed for the source image_folder"),
        ({"image_size": 3}, "data_preparation.image_size: Input should be greater than or equal to 4, not 3"),
        ({"image_size": 30}, "backbones.deep: patch 4 does not divide data_preparation.image_size 30"),
        (
            {"crop": "left"},
            "data_preparation.crop: Input should be 'centre', 'none', 'adm', 'celeba_uvit' or 'celeba_duodiff', not",
        ),
        (
            {"source": "idx", "mode": "grey"},
            "data_preparation: mode belongs to the sources image_folder and hub, not to idx",
        ),
        (
            {"source": "digits", "folder": None},
            "data_preparation: image_size belongs to images that are read from a folder",
        ),
    ],
)
def test_keys_of_an_image_folder_are_needed_there_and_refused_elsewhere(change: dict[str, Any], message: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["data_preparation"].update({**FOLDER, **change})
    with pytest.raises(InputError) as caught:
        validate(raw)
    assert str(caught.value).startswith(f"parameters: {message}")


def test_three_keys_make_an_image_folder_with_documented_defaults() -> None:
    raw = deepcopy(_parameters("base"))
    raw["data_preparation"].update(FOLDER)
    assert validate(raw).data_preparation.decoding() == Decoding(
        32, crop="centre", resize_filter="lanczos", mode="colour"
    )


def test_every_parameter_says_what_it_means() -> None:
    def undescribed(model: type[Settings], path: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            inner = field.annotation
            inner = next((kind for kind in get_args(inner) if hasattr(kind, "model_fields")), inner)
            if isinstance(inner, type) and issubclass(inner, Settings):
                found += undescribed(inner, f"{path}{name}.")
                if not inner.__doc__:
                    found.append(f"{path}{name}")
            elif not field.description:
                found.append(f"{path}{name}")
        return found

    assert undescribed(Parameters) == []


STAGE = {"edge": 500.0, "margin": 50.0, "teacher": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge": 999.5}, "backbones.early.stage.edge is 999.5, beyond 999"),
        ({"margin": 500.0}, "backbones.early.stage: a margin of 500 below timestep 500 leaves none out"),
        ({"margine": 5.0}, "backbones.early.stage.margine: unknown parameter; here stand edge, margin, teacher"),
        ({"edge": -1.0}, "backbones.early.stage.edge: "),
        ({"teacher": "early"}, "backbones.early.stage.teacher is 'early', which learns only its own stage"),
        ({"teacher": "nobody"}, "backbones.early.stage.teacher is 'nobody', but the backbones are"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"]["early"] = {**raw["backbones"]["shallow"], "stage": {**STAGE, **changes}}
    with pytest.raises(InputError, match=re.escape(message)):
        validate(raw)


@pytest.mark.parametrize("name", ["shallow", "middle", "deep", "duodiff", "reversed"])
def test_a_backbone_of_one_stage_has_a_name_of_its_own(name: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"][name] = {**raw["backbones"]["shallow"], "stage": STAGE}
    with pytest.raises(InputError, match=f"backbones.{name} has a stage, so it needs a name of its own"):
        validate(raw)


def test_a_network_of_one_stage_from_a_file_says_where_that_ends() -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"]["early"] = {**raw["backbones"]["shallow"], "file": "early.safetensors"}
    validate(raw)
    raw["backbones"]["early"]["stage"] = {**STAGE, "edge": None}
    with pytest.raises(InputError, match="the stage of a network from a file needs its edge"):
        validate(raw)


@pytest.mark.parametrize(("section", "key"), [("early_exit", "backbone"), ("evaluation", "middle")])
def test_what_learns_one_stage_stands_in_for_no_other(section: str, key: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"]["early"] = {**raw["backbones"]["shallow"], "stage": STAGE}
    raw[section][key] = "early"
    with pytest.raises(InputError, match=f"{section}.{key} is 'early', which learns only its own stage"):
        validate(raw)


def test_two_backbones_of_the_search_learn_all_timesteps() -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"]["early"] = {**raw["backbones"]["shallow"], "stage": STAGE}
    raw["switch_search"]["backbones"] = ["early", "deep"]
    with pytest.raises(InputError, match="must name two backbones that learn all timesteps"):
        validate(raw)
    raw["switch_search"]["backbones"] = ["early", "shallow", "deep"]
    parameters = validate(raw)
    assert (parameters.everywhere, parameters.first_stage) == (["shallow", "deep"], ["early"])


@pytest.mark.parametrize(
    ("stage", "lowest"), [({}, 450), ({"margin": 49.5}, 451), ({"margin": 499.5}, 1), ({"edge": None}, 699)]
)
def test_a_stage_begins_a_margin_below_its_edge(stage: dict[str, Any], lowest: int) -> None:
    suggested = [
        {"steps": 20, "k": 5, "timestep_edge": 749.0},
        {"steps": 10, "k": 3, "timestep_edge": 649.0},
    ]
    assert Stage(**{**STAGE, **stage}).lowest(suggested) == lowest


def test_a_suggested_stage_counts_evaluations_of_which_heun_makes_two_a_step() -> None:
    suggested = [{"steps": 10, "k": 13, "timestep_edge": 300.0}]
    assert Stage(**{**STAGE, "edge": None}).lowest(suggested) == 250


@pytest.mark.parametrize(
    ("k", "edge", "reason"),
    [
        (0, 1000.0, "to switch at once: set the edge of the stage to a timestep"),
        (10, 0.0, "to switch never: set the edge of the stage to a timestep"),
        (9, 40.0, "a margin of 50 below timestep 40 leaves none out"),
    ],
)
def test_a_loss_gap_without_a_switch_makes_no_stage(k: int, edge: float, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Stage(**{**STAGE, "edge": None}).lowest([{"steps": 10, "k": k, "timestep_edge": edge}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"schedule": "depths", "depths": [5, 3, 4]},
            "ase.depths: exit depths [5, 3, 4] rise towards noise, from 3 to 4 at bin 2: they go from data to noise "
            "and may only fall",
        ),
        (
            {"schedule": "depths", "depths": [5, 2]},
            "ase.depths: exit depth 2 is none of this network, which runs 3 to 5 of its blocks",
        ),
        (
            {"schedule": "exit_statistics", "threshold": 0.3},
            "ase.threshold is 0.3, none of exit_statistics.thresholds [0.05, 0.1, 0.15, 0.2]",
        ),
        (
            {"schedule": "exit_statistics", "threshold": 0.1, "backbone": "middle"},
            "ase.schedule is exit_statistics, but exits leave 'deep', not 'middle'",
        ),
    ],
)
def test_an_exit_schedule_that_its_backbone_cannot_have_is_refused(change: dict[str, Any], message: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["ase"].update(change)
    with pytest.raises(InputError) as caught:
        validate(raw)
    assert str(caught.value) == f"parameters: {message}"


def test_without_ase_nothing_is_asked_of_it() -> None:
    raw = deepcopy(_parameters("base"))
    raw["ase"] = None
    assert validate(raw).ase is None


def test_a_dit_of_any_depth_can_be_fine_tuned_for_depths_of_its_own() -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"]["plain"] = {**raw["backbones"]["deep"], "kind": "dit", "depth": 4}
    raw["ase"] |= {"backbone": "plain", "schedule": "depths", "depths": [4, 1]}
    assert validate(raw).ase is not None


def test_the_name_of_ase_is_taken() -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"]["ase"] = raw["backbones"]["deep"]
    with pytest.raises(InputError, match="ase is the name of what the pipeline stage_training trains"):
        validate(raw)


MULTISTAGE: dict[str, Any] = {
    "encoder_width": 8,
    "multipliers": [1, 2],
    "blocks": 1,
    "attention_sides": [],
    "networks": {"unified": {"decoder_widths": [8]}, "staged": {"decoder_widths": [4, 8, 8], "edges": [600.0, 300.0]}},
    "eta": 0.01,
    "alpha": 0.7,
    "steps": 10,
    "checkpoints": [0.5],
    "timesteps": "uniform",
    "seeds": [0, 1],
    "solver": "ddim",
    "sampling_steps": [5, 10],
}


def staged(**changes: Any) -> dict[str, Any]:
    return {"networks": {**MULTISTAGE["networks"], "staged": {**MULTISTAGE["networks"]["staged"], **changes}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "multistage.depth: unknown parameter; here stand alpha, attention_sides, blocks, checkpoints"),
        (staged(edges=None), "multistage.networks.staged: edges are needed where there are several decoders"),
        (staged(edges=[300.0, 600.0]), "multistage.networks.staged: edges [300.0, 600.0] must descend"),
        (
            staged(decoder_widths=[18, 8, 4]),
            "multistage.networks.staged.decoder_widths.0: Input should be a multiple of 4",
        ),
        (staged(edges=[600.0]), "multistage.networks.staged: 3 decoders need 2 edges, not 1"),
        (staged(edges=[1200.0, 300.0]), "multistage.networks.staged.edges [1200.0, 300.0] must lie within 0..1000"),
        (
            staged(edges=[500.5, 500.2]),
            "multistage.networks.staged.edges [500.5, 500.2] leave a stage without a whole timestep",
        ),
        (
            staged(edges=[999.5, 300.0]),
            "multistage.networks.staged.edges [999.5, 300.0] leave a stage without a whole timestep",
        ),
        (
            {**staged(decoder_widths=[4] * 60, edges="searched"), "search": {"trainings": 2, "seed": 9}},
            "timestep_clustering.nodes is 21, too few for the 60 stages of multistage.networks.staged",
        ),
        (staged(decoder_widths=[4, 8], edges="optimal_denoiser"), "multistage.networks.staged: edges by optimal_den"),
        (staged(decoder_widths=[8], edges=None, shared_encoder=False), "multistage.networks.staged: shared_encoder"),
        ({"checkpoints": [0.5, 0.2]}, "multistage: checkpoints must rise, not [0.5, 0.2]"),
        ({"checkpoints": [0.5, 0.501]}, "multistage: checkpoints must differ by a percent"),
        ({"sampling_steps": [1001]}, "multistage.sampling_steps is 1001, but there are only 1000 timesteps"),
        ({"solver": "heun", "sampling_steps": [0]}, "multistage.sampling_steps.0: Input should be greater than"),
        (
            {"networks": {"deep": {"decoder_widths": [8]}, "b": {"decoder_widths": [4]}}},
            "multistage.networks.deep: another network has that name already",
        ),
    ],
)
def test_a_comparison_of_multistage_networks_fits_together(change: dict[str, Any], message: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["multistage"] = deepcopy(MULTISTAGE)
    validate(raw)
    raw["multistage"] |= change
    with pytest.raises(InputError) as caught:
        validate(raw)
    assert str(caught.value).startswith(f"parameters: {message}")


CHECKPOINT = {"path": "nnet.pth", "steps": 500_000, "batch_images": 128}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from_checkpoint": {"path": "nnet.pth"}}, "backbones.deep.from_checkpoint.steps: Field required"),
        (
            {"from_checkpoint": {**CHECKPOINT, "heads": 8}},
            "backbones.deep.from_checkpoint.heads: unknown parameter; here stand batch_images, path, predicts, ",
        ),
        ({"from_checkpoint": {**CHECKPOINT, "sha256": "abc"}}, "backbones.deep.from_checkpoint.sha256: String should"),
        ({"from_checkpoint": {**CHECKPOINT, "timestep_scale": 0}}, "backbones.deep.from_checkpoint.timestep_scale: "),
        (
            {"from_checkpoint": CHECKPOINT, "file": "deep.safetensors"},
            "backbones.deep: file and from_checkpoint exclude each other",
        ),
        (
            {"from_checkpoint": CHECKPOINT, "stage": STAGE},
            "backbones.deep: stage and from_checkpoint exclude each other: a checkpoint learnt all timesteps",
        ),
        (
            {"stage": {**STAGE, "egde": 3}},
            "backbones.deep.stage.egde: unknown parameter; here stand edge, margin, teacher",
        ),
    ],
)
def test_a_backbone_from_a_checkpoint_is_refused_where_it_cannot_be(changes: dict[str, Any], message: str) -> None:
    raw = deepcopy(_parameters("base"))
    raw["backbones"]["deep"] |= changes
    with pytest.raises(InputError) as caught:
        validate(raw)
    assert str(caught.value).startswith(f"parameters: {message}")


def test_edm_brings_its_own_loss_weights() -> None:
    raw = deepcopy(_parameters("base"))
    raw["training"] |= {"predicts": "edm"}
    with pytest.raises(InputError, match="predicts edm brings loss weights of its own: set min_snr_gamma: null"):
        validate(raw)
    raw["training"] |= {"min_snr_gamma": None}
    assert validate(raw).training.predicts == "edm"


@pytest.mark.parametrize(("env", "side"), [("digits_multistage", 8), ("fashion_multistage", 14)])
def test_small_comparisons_have_networks_that_can_be_built(env: str, side: int) -> None:
    parameters = validate(_parameters(env))
    assert parameters.multistage is not None
    noise = parameters.noise.schedule()
    cost = {}
    for name in parameters.multistage.networks:
        config = parameters.multistage.architecture(name, side, 1, parameters.training.predicts, noise)
        with torch.device("meta"):
            cost[name] = [stage.macs for stage in UNet(config).stages]
    assert cost["multistage"] == cost["multistage_uniform"] == cost["separate"]
    near_noise, middle, near_data = cost["multistage"]
    assert [middle] == cost["unified"]
    assert near_noise < middle < near_data < 40e6


def test_the_cifar10_comparison_is_of_the_published_networks() -> None:
    parameters = validate(_parameters("cifar10_multistage"))
    assert parameters.multistage is not None
    noise = parameters.noise.schedule()
    found = parameters.multistage.architecture("multistage", 32, 3, "noise", noise)
    assert found == UNetConfig(32, 3, 128, (16, 128, 192), (1, 2, 2, 2), 8, (16,), noise=noise)


def test_guidance_is_one_number_or_one_a_backbone() -> None:
    raw = deepcopy(_parameters("base"))
    raw["training"]["label_dropout"], raw["sampling"]["guidance"] = 0.1, 2
    assert validate(raw).sampling.guidance_by(["deep", "shallow"]) == {"deep": 2.0, "shallow": 2.0}
    raw["sampling"]["guidance"] = {"deep": 1.5}
    assert validate(raw).sampling.guidance_by(["deep", "shallow"]) == {"deep": 1.5, "shallow": 1.0}


@pytest.mark.parametrize(
    ("dropout", "conditioning"),
    [(None, {}), (0, {"num_classes": 10, "null_class": False}), (0.1, {"num_classes": 11, "null_class": True})],
)
def test_label_dropout_says_what_networks_are_conditioned_on(dropout: float | None, conditioning: Any) -> None:
    raw = deepcopy(_parameters("base"))
    raw["training"]["label_dropout"] = dropout
    training = validate(raw).training
    assert training.conditioning(10) == conditioning
    if dropout is not None:
        with pytest.raises(InputError, match=r"training\.label_dropout must be null: the images have no classes"):
            training.conditioning(1)
