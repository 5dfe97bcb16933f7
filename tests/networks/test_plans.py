import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from duodiff_pipeline.diffusion.guidance import GuidedDenoiser
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.sampling import sample
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.diffusion.starts import SharedStarts
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.adaptive import AdaptiveDenoiser
from duodiff_pipeline.networks.controls import throughout
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.networks.plans import NetworkBank, SamplingPlan, single
from duodiff_pipeline.networks.staged import StagedDenoiser

SOLVER = Solver("ddim", 20)


@pytest.fixture
def bank(make_uvit, make_exits, make_stored) -> NetworkBank:
    deep = make_uvit(1, depth=5)
    backbones = {
        "deep": make_stored(deep),
        "shallow": make_stored(make_uvit(2)),
        "late": make_stored(make_uvit(3), timestep_range=(0.0, 500.0)),
        "cosine": make_stored(make_uvit(4, noise=NoiseSchedule("cosine"))),
    }
    exits = make_stored(make_exits(deep), "early_exits", backbone_sha256=backbones["deep"].sha256)
    return NetworkBank(backbones, exits, "deep")


def test_exits_of_another_network_of_that_name_are_refused(make_uvit, make_exits, make_stored):
    deep, retrained = make_uvit(1, depth=5), make_uvit(2, depth=5)
    exits = make_stored(make_exits(deep), "early_exits", backbone_sha256=make_stored(deep).sha256)
    with pytest.raises(InputError, match="the early exits do not belong to this deep: train them anew"):
        NetworkBank({"deep": make_stored(retrained)}, exits, "deep")


def test_backbones_of_different_images_are_refused(make_uvit, make_stored):
    backbones = {"deep": make_stored(make_uvit(1)), "shallow": make_stored(make_uvit(2), data_sha256="cd" * 32)}
    with pytest.raises(InputError, match="were not trained on the same images"):
        NetworkBank(backbones)


def test_a_plan_survives_json(noise):
    plan = two_stage(5, noise, Solver("ddim", 20, 0.5))
    assert SamplingPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def two_stage(k: int, noise: NoiseSchedule, solver: Solver = SOLVER) -> SamplingPlan:
    return SamplingPlan("duodiff", solver, StageSchedule.from_switch(k, solver.grid(noise), ("shallow", "deep"), noise))


def test_runs_and_switch_say_who_serves_how_often(noise):
    assert (two_stage(5, noise).runs, two_stage(5, noise).switch) == ("5 shallow, 15 deep", 5)
    assert (two_stage(0, noise).runs, two_stage(0, noise).switch) == ("20 deep", 0)
    assert (two_stage(20, noise).runs, two_stage(20, noise).switch) == ("20 shallow", 20)
    alone = single("deep only", "deep", SOLVER, noise)
    assert (alone.runs, alone.switch, alone.switches) == ("20 deep", None, ())
    assert two_stage(5, noise).switches == (5,)
    back_and_forth = SamplingPlan("", SOLVER, StageSchedule((700.0, 300.0), ("a", "b", "a"), noise))
    assert (back_and_forth.runs, back_and_forth.switch) == ("6 a, 8 b, 6 a", None)
    assert back_and_forth.switches == (6, 14)


@pytest.mark.parametrize("k", [0, 5, 20])
def test_cost_known_beforehand_is_the_cost_traced(bank, noise, k):
    plan = two_stage(k, noise)
    trace = sample(bank.denoiser(plan), plan.solver, noise, (1, 8, 8), range(3), 0, 2).trace
    assert bank.static_gmacs(plan) == pytest.approx(trace.gmacs_per_image, rel=1e-12)
    shallow, deep = (bank.network(name).macs for name in ("shallow", "deep"))
    assert trace.macs.sum(axis=0).tolist() == [k * shallow + (20 - k) * deep] * 3


def test_a_plan_becomes_the_denoiser_it_describes(bank, noise):
    staged = bank.denoiser(two_stage(5, noise))
    assert isinstance(staged, StagedDenoiser)
    assert staged.stages == (bank.network("shallow"), bank.network("deep"))
    adaptive = bank.denoiser(replace(single("adadiff", "deep", SOLVER, noise), exit_threshold=0.4))
    assert isinstance(adaptive, AdaptiveDenoiser)
    assert (adaptive.network, adaptive.exits, adaptive.threshold) == (bank.network("deep"), bank.exits.module, 0.4)


def test_adaptive_cost_lies_between_no_block_and_all_blocks_with_probes(bank, noise):
    plan = replace(single("adadiff", "deep", SOLVER, noise), exit_threshold=0.3)
    denoiser = bank.denoiser(plan)
    trace = sample(denoiser, SOLVER, noise, (1, 8, 8), range(4), 0, 4).trace
    by_depth = denoiser.macs_by_exit_depth.numpy()
    assert (np.diff(by_depth) > 0).all()
    assert np.array_equal(trace.macs, by_depth[trace.exit_depth])


def test_an_unknown_network_is_refused(bank, noise):
    with pytest.raises(InputError, match=r"no backbone 'huge'; there are \['cosine', 'deep', 'late', 'shallow'\]"):
        bank.denoiser(single("huge only", "huge", SOLVER, noise))


def test_a_network_of_another_noise_schedule_is_refused(bank, noise):
    with pytest.raises(InputError, match=r"cosine was trained on .*cosine.* but the schedule lies on .*linear"):
        bank.denoiser(single("cosine only", "cosine", SOLVER, noise))


@pytest.mark.parametrize(("edge", "serves"), [(560.0, ("deep", "late")), (300.0, ("late", "deep"))])
def test_a_network_outside_the_timesteps_it_was_trained_for_is_refused(bank, noise, edge, serves):
    plan = SamplingPlan("", SOLVER, StageSchedule((edge,), serves, noise))
    with pytest.raises(InputError, match=r"late was trained for timesteps \[0, 500\), but the schedule uses it at"):
        bank.denoiser(plan)


def test_a_network_within_the_timesteps_it_was_trained_for_is_taken(bank, noise):
    for edge in (500.0, 120.0):
        plan = SamplingPlan("", SOLVER, StageSchedule((edge,), ("deep", "late"), noise))
        assert bank.denoiser(plan).stages[1] is bank.network("late")


def test_exits_of_another_network_or_none_are_refused(bank, noise):
    plan = replace(single("adadiff", "shallow", SOLVER, noise), exit_threshold=0.4)
    with pytest.raises(InputError, match="adadiff: shallow has no early exits"):
        bank.denoiser(plan)
    without = NetworkBank(bank.backbones)
    with pytest.raises(InputError, match="adadiff: deep has no early exits"):
        without.denoiser(replace(single("adadiff", "deep", SOLVER, noise), exit_threshold=0.4))


def test_exits_with_a_network_of_their_own_run_that(bank, make_shared_exits, make_stored, noise):
    deep = bank.backbones["deep"]
    shared = make_stored(make_shared_exits(deep.module), "shared_exits", backbone_sha256=deep.sha256)
    plan = replace(single("adadiff", "deep", SOLVER, noise), exit_threshold=0.4, exit_patience=1)
    adaptive = replace(bank, exits=shared).denoiser(plan)
    assert adaptive.network is shared.module.tuned
    assert adaptive.patience == 1
    assert SamplingPlan.from_dict(plan.to_dict()) == plan


@pytest.fixture
def parted(make_uvit, make_stored, noise) -> NetworkBank:
    """A network of five blocks that was trained to run 5 of them below timestep 500 and 3 above."""
    trained = ExitSchedule((5, 3), noise)
    return NetworkBank(
        {
            "deep": make_stored(make_uvit(1, depth=5)),
            "ase": make_stored(make_uvit(2, depth=5), exit_schedule=trained.to_dict()),
            "late": make_stored(make_uvit(3, depth=5), timestep_range=(0.0, 500.0)),
        }
    )


def by_depths(depths, noise, network="ase", solver=SOLVER) -> SamplingPlan:
    return SamplingPlan("ase", solver, ExitSchedule(depths, noise).stages(network).serving(solver.grid(noise)))


def test_all_blocks_everywhere_are_the_bare_network_bit_for_bit(parted, noise):
    plan, bare = by_depths((5, 5), noise), single("whole", "ase", SOLVER, noise)
    assert plan.runs == "20 ase/5"
    found, expected = (sample(parted.denoiser(one), SOLVER, noise, (1, 8, 8), range(3), 0, 2) for one in (plan, bare))
    assert torch.equal(found.images, expected.images)
    assert parted.static_gmacs(plan) == parted.static_gmacs(bare)


def test_parts_serve_their_stages_and_cost_what_was_known_beforehand(parted, noise):
    plan = by_depths((5, 4, 3), noise)
    assert plan.runs == "7 ase/3, 7 ase/4, 6 ase/5"
    trace = sample(parted.denoiser(plan), SOLVER, noise, (1, 8, 8), range(3), 0, 2).trace
    assert trace.exit_depth[:, 0].tolist() == [3] * 7 + [4] * 7 + [5] * 6
    assert trace.stages.tolist() == [0] * 7 + [1] * 7 + [2] * 6
    assert parted.static_gmacs(plan) == pytest.approx(trace.gmacs_per_image, rel=1e-12)
    network = parted.backbones["ase"].module
    saved = 2 * 7 + 1 * 7  # blocks of 20 evaluations
    assert trace.macs.sum(axis=0).tolist() == [20 * network.macs - saved * network.block_macs] * 3
    assert SamplingPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_exit_depths_share_starts_with_their_own_depth_alone_and_bit_for_bit(parted, noise):
    starts = SharedStarts(2**20)
    order = [(5, 4, 3), (5, 3, 3), (4, 4, 4), (4, 3, 3), (5, 4, 3), (3,), (5,)]
    hits = []
    for depths in order:
        plan, before = by_depths(depths, noise), starts.hits
        denoiser, start = parted.denoiser(plan), starts.of(parted.served_by(plan))
        shared = sample(denoiser, SOLVER, noise, (1, 8, 8), range(2), 0, 2, start=start)
        alone = sample(denoiser, SOLVER, noise, (1, 8, 8), range(2), 0, 2)
        assert torch.equal(shared.images, alone.images)
        assert (shared.trace.exit_depth == alone.trace.exit_depth).all()
        assert (shared.trace.macs == alone.trace.macs).all()
        hits.append(starts.hits - before)
    assert hits == [0, 1, 0, 1, 1, 1, 0]
    whole = single("", "ase", SOLVER, noise)
    others = [single("", "ase/3", SOLVER, noise), single("", "deep/3", SOLVER, noise)]
    assert len({parted.served_by(plan)[0] for plan in (whole, *others)}) == 3


def test_a_plan_says_where_it_leaves_the_schedule_that_was_trained(parted, noise):
    another = "sampled with another exit schedule than it was trained for"
    assert parted.note(by_depths((5, 3), noise)) == ""
    assert parted.note(by_depths((5, 5, 3, 3), noise)) == ""  # the same, in other bins
    assert parted.note(by_depths((5, 5, 5, 3), noise)) == another
    assert parted.note(by_depths((3, 3), noise)) == another
    assert parted.note(by_depths((5, 4), noise, "deep")) == ""  # which was trained for none
    one_step = Solver("ddim", 1)  # at timestep 999, where both have the same
    assert parted.note(by_depths((5, 5, 5, 3), noise, solver=one_step)) == ""


def test_parts_that_are_not_there_are_refused(parted, noise):
    for name, said in (
        ("ase/2", "ase/2: there is no part '2' of a network of 5 blocks; there are 3, 4, 5"),
        ("ese/3", "there is no backbone 'ese'; there are ['ase', 'deep', 'late']"),
        ("late/3", "late/3 was trained for timesteps [0, 500), but the schedule uses it at 549"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            parted.denoiser(single("", name, SOLVER, noise))


def test_a_network_without_parts_is_named(bank, make_exits, make_stored, noise):
    heads = make_stored(make_exits(bank.network("deep")), "early_exits")
    with pytest.raises(InputError, match="exits/3: exits has no parts"):
        NetworkBank({"exits": heads}).network("exits/3")


@pytest.fixture
def conditional(make_uvit, make_exits, make_stored) -> NetworkBank:
    """Four classes and one for none; deep is guided, late has no class for none."""
    deep, shallow = (make_uvit(i, depth=depth, num_classes=5, null_class=True) for i, depth in ((1, 5), (2, 1)))
    backbones = {
        "deep": make_stored(deep),
        "shallow": make_stored(shallow),
        "late": make_stored(make_uvit(num_classes=4)),
    }
    exits = make_stored(make_exits(deep), "early_exits", backbone_sha256=backbones["deep"].sha256)
    return NetworkBank(backbones, exits, "deep", {"deep": 2.0, "shallow": 0.0})


@pytest.mark.parametrize("k", [0, 5, 20])
def test_a_guided_network_counts_twice_beforehand_and_in_the_trace(conditional, noise, k):
    plan = two_stage(k, noise)
    trace = sample(conditional.denoiser(plan), plan.solver, noise, (1, 8, 8), range(3), 0, 2).trace
    assert conditional.static_gmacs(plan) == pytest.approx(trace.gmacs_per_image, rel=1e-12)
    shallow, deep = (conditional.network(name).macs for name in ("shallow", "deep"))
    assert trace.macs.sum(axis=0).tolist() == [k * shallow + (20 - k) * 2 * deep] * 3
    assert conditional.guidance_of(plan) == (0.0, 2.0)


def test_starts_are_shared_only_under_the_same_guidance_and_bit_for_bit(conditional, noise):
    starts = SharedStarts(2**20)
    for scale in (1.0, 0.0, 3.0):
        bank = replace(conditional, guidance={"shallow": scale})
        for k in (4, 9):
            plan = two_stage(k, noise)
            shared, alone = (
                sample(bank.denoiser(plan), plan.solver, noise, (1, 8, 8), range(2), 0, 2, start=start)
                for start in (starts.of(bank.served_by(plan)), None)
            )
            assert torch.equal(shared.images, alone.images)
            assert (shared.trace.macs == alone.trace.macs).all()
    assert (starts.hits, starts.misses) == (3, 3)


def test_controls_are_matched_to_what_a_guided_network_costs(conditional, noise):
    plan = two_stage(8, noise)
    control = throughout("fewer steps", "deep", plan, conditional)
    assert control.solver.steps == 13  # 12, and 8 shallow steps at about a tenth
    assert conditional.static_gmacs(control) == pytest.approx(conditional.static_gmacs(plan), rel=0.1)


def test_early_exits_are_guided_as_their_network_is(conditional, noise):
    plan = replace(single("adadiff", "deep", SOLVER, noise), exit_threshold=0.4)
    guided = conditional.denoiser(plan)
    assert isinstance(guided, GuidedDenoiser)
    assert isinstance(guided.denoiser, AdaptiveDenoiser)
    assert (guided.scale, guided.null_label) == (2.0, 4)


def test_parts_are_guided_as_their_network_is_and_share_starts_accordingly(make_uvit, make_stored, noise):
    network = make_stored(make_uvit(1, depth=5, num_classes=5, null_class=True))
    plan, starts = by_depths((5, 3), noise), SharedStarts(2**20)
    for scale in (1.0, 2.0):
        bank = NetworkBank({"ase": network}, guidance={"ase": scale})
        shared, alone = (
            sample(bank.denoiser(plan), SOLVER, noise, (1, 8, 8), range(2), 0, 2, start=start)
            for start in (starts.of(bank.served_by(plan)), None)
        )
        assert torch.equal(shared.images, alone.images)
        assert bank.static_gmacs(plan) == pytest.approx(shared.trace.gmacs_per_image, rel=1e-12)
        assert bank.guidance_of(plan) == (scale, scale)
    assert (starts.hits, starts.misses) == (0, 2)


def test_a_network_without_guidance_is_taken_bare(conditional, noise):
    bare = NetworkBank(conditional.backbones).denoiser(two_stage(5, noise))
    assert bare.stages == (conditional.network("shallow"), conditional.network("deep"))
    assert conditional.guidance_of(single("late only", "late", SOLVER, noise)) == (1.0,)


def test_guidance_without_a_class_for_no_label_is_refused(bank, conditional):
    with pytest.raises(InputError, match=r"guidance of late by 1\.5 needs a class for no label, but it has none"):
        replace(conditional, guidance={"late": 1.5})
    with pytest.raises(InputError, match="guidance of deep by 2 needs a class for no label"):
        replace(bank, guidance={"deep": 2.0})
    assert bank.guidance_of(single("deep only", "deep", SOLVER, NoiseSchedule())) is None


def test_networks_of_other_classes_are_refused(make_uvit, make_stored):
    backbones = {"deep": make_stored(make_uvit(1)), "shallow": make_stored(make_uvit(2, num_classes=4))}
    with pytest.raises(InputError, match=r"different numbers of classes: {'deep': 0, 'shallow': 4}"):
        NetworkBank(backbones)


def test_a_foreign_network_of_unknown_images_goes_with_any_other(make_uvit, make_stored):
    foreign = make_stored(make_uvit(1), data_sha256=None)
    NetworkBank({"deep": foreign, "shallow": make_stored(make_uvit(2)), "middle": foreign})
    others = {name: make_stored(make_uvit(2), data_sha256=sha * 32) for name, sha in (("b", "ab"), ("c", "cd"))}
    with pytest.raises(InputError, match="were not trained on the same images"):
        NetworkBank({"deep": foreign, **others})
