"""Costs, seconds and bytes of a plan, against closed forms and the functions that a run asks."""

from dataclasses import replace
from pathlib import Path

import pytest
from planned_examples import nothing, parameters, planned

from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.networks.plans import NetworkBank, single
from duodiff_pipeline.planning.calibration import Calibration, Speed, StepSpeed
from duodiff_pipeline.planning.memory import weight_bytes
from duodiff_pipeline.planning.networks import Networks
from duodiff_pipeline.planning.parts import Part, parts_of
from duodiff_pipeline.planning.plan import Plan, _seconds
from duodiff_pipeline.planning.sampling import Call, Tally, tally_of
from duodiff_pipeline.planning.text import bytes_text, seconds_text


def of_pipeline(parts: list[Part], name: str) -> list[Part]:
    return [part for part in parts if part.pipeline == name]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    p = parameters("base")
    return p, *planned(p, tmp_path_factory.mktemp("work"))


def test_a_training_costs_three_forward_passes_of_every_image(digits) -> None:
    p, _, networks = digits
    deep = networks.trainings["deep"]
    # U-ViT of 5 blocks, width 128, on 8 x 8 in patches of 4: 4 patches and the time make 5 tokens
    tokens, width = 5, 128
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    skips, inside = 2 * tokens * 2 * width**2, deep.stored.module.macs
    assert inside > 5 * block + skips
    assert inside == pytest.approx(5 * block + skips, rel=0.1)  # the rest embeds and projects
    assert deep.gmacs * 1e9 == 3 * inside * p.training.batch_images * p.backbones["deep"].steps


def test_a_teacher_is_asked_once_an_image(tmp_path: Path) -> None:
    p = parameters("test")
    _, networks = planned(p, tmp_path)
    early, deep = networks.trainings["early"], networks.trainings["deep"]
    macs = 3 * early.stored.module.macs + deep.stored.module.macs
    assert early.gmacs * 1e9 == pytest.approx(macs * p.training.batch_images * early.steps)


def test_sampling_counts_images_and_calls_whole_micro_batches(digits) -> None:
    p, _, networks = digits
    bank = NetworkBank({"deep": networks.stored("deep")})
    plan = single("deep", "deep", Solver("ddim", 20), p.noise.schedule())
    tally = tally_of(bank, [plan], 599, 200)
    macs = networks.stored("deep").module.macs
    assert tally.gmacs * 1e9 == pytest.approx(20 * macs * 599)
    assert tally.calls == {Call("deep", macs, 200): 20 * 3}
    assert tally.drawn_images == 599


@pytest.fixture(scope="module")
def of_test(tmp_path_factory):
    p = parameters("test")
    images, networks = planned(p, tmp_path_factory.mktemp("work"))
    return p, images, networks, parts_of(p, networks, images, None, nothing)


def test_searched_edges_cost_a_bounded_number_of_trainings(of_test) -> None:
    p, _, networks, parts = of_test
    search = of_pipeline(parts, "multistage_training")[0]
    trained = networks.trainings["searched_0"]
    first, second = trained.kept
    assert p.multistage.search.trainings == 4
    steps = 2 * first + second  # two go on, and one of them is the beginning of its own training
    assert search.steps == steps
    assert search.tally.drawn_images == search.tally.judged_images == (4 + 2) * p.evaluation.images
    assert search.gmacs == pytest.approx(trained.gmacs * steps / trained.steps + search.tally.gmacs)


def test_the_whole_front_is_measured_again_but_not_timed(of_test) -> None:
    p, _, _, parts = of_test
    blocks, timed = of_pipeline(parts, "evaluation")
    assert blocks.tally.drawn_images == blocks.plans * len(p.evaluation.seeds) * p.evaluation.images
    assert blocks.plans > 3 + p.evaluation.schedules  # more than networks alone and what gets controls
    assert timed.tally.drawn_images == timed.tally.judged_images == 0
    assert timed.tally.gmacs > 0


def test_every_backbone_stage_and_seed_is_a_part(of_test) -> None:
    p, _, _, parts = of_test
    trained = {part.what for part in parts if part.training is not None and part.training.name == part.what}
    stages = {f"{name}_{seed}" for name in p.multistage.networks for seed in p.multistage.seeds}
    assert trained == {*p.backbones, "early_exits", "ase", *stages}


def test_several_devices_share_trainings_and_sampling(of_test) -> None:
    part = next(part for part in of_test[3] if part.what == "deep")
    calibration = Calibration(
        {"deep": Speed(1e-3, 1e-9, 16)}, {"deep": StepSpeed(0.5, 16)}, 0.01, decoding_seconds=0.1, seconds=1.0
    )
    assert _seconds(part, calibration, 1) == pytest.approx(0.5 * part.steps)
    assert _seconds(part, calibration, 2) == pytest.approx(0.25 * part.steps)
    drawn = Part("x", "y", tally=Tally({Call("deep", 1000, 16): 10}, 0.0, drawn_images=20, judged_images=20))
    evaluations = 10 * (1e-3 + 1e-9 * 1000 * 16)
    assert _seconds(drawn, calibration, 1) == pytest.approx(evaluations + 20 * (0.01 + 0.1))
    assert _seconds(drawn, calibration, 2) == pytest.approx(evaluations / 2 + 20 * (0.01 + 0.1))
    assert _seconds(replace(drawn, known=False), calibration, 1) is None
    without = replace(calibration, feature_seconds=None)  # the extractor is missing
    assert _seconds(drawn, without, 1) == pytest.approx(evaluations + 20 * 0.1)
    assert _seconds(Part("x", "y", tally=Tally(judged_images=20)), without, 1) is None


def plan_of(p, images, networks: Networks) -> Plan:
    return Plan("x", p, images, networks, (), (), None, "cpu", (), (), 0, 0)


def test_a_piece_of_a_batch_is_held_at_once(tmp_path: Path) -> None:
    p = parameters("test", hardware={"devices": 2, "gradient_accumulation": 2})
    images, networks = planned(p, tmp_path)
    one, weights, at_once, kept = plan_of(p, images, networks).training_memory()
    assert at_once == p.training.batch_images / 4
    assert weights == weight_bytes(one.new.network) == 20 * one.stored.parameters
    whole = plan_of(parameters("test"), images, networks).training_memory()
    assert whole[3] == 4 * kept


def test_latents_take_disk_beside_the_images_and_cost_an_encoding(tmp_path: Path) -> None:
    few = {"solvers": ["ddim"], "steps": [2], "n_trials": 2, "budgets": []}
    p = parameters("imagenet256", switch_search=few, switch_curves={"steps": [2]})
    images, networks = planned(p, tmp_path)
    plan, count = plan_of(p, images, networks), 1_281_167 + 50_000
    assert plan.pack_bytes() == count * (2 * 3 * 256**2 + 8 + 2 * 4 * 4 * 4 * 32**2)  # mirrored: four numbers
    assert networks.stored("deep").parameters == 286_763_172  # of 1,000 classes
    (latents,) = of_pipeline(parts_of(p, networks, images, None, nothing), "data_preparation")
    assert sum(latents.tally.calls.values()) == 2 * count


def test_numbers_are_said_in_the_unit_that_a_person_would_take() -> None:
    assert [seconds_text(s) for s in (0.5, 90, 600, 10_000, 1e6, 1e8)] == [
        *("0.5 s", "90 s", "10 min", "2.8 h", "12 days", "3.2 years")
    ]
    assert [bytes_text(b) for b in (10, 2500, 3e7, 4.4e9)] == ["10 B", "2.5 kB", "30 MB", "4.4 GB"]
