"""What is evaluated beside the chosen schedules."""

import pytest

from duodiff_pipeline.config import Ase, EarlyExit, Evaluation, Noise, Sampling, SwitchSearch
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.networks.plans import NetworkBank, SamplingPlan
from duodiff_pipeline.pipelines.evaluation.comparison import EvaluatedPlan, evaluated_plans
from duodiff_pipeline.pipelines.evaluation.nodes import plan_evaluation
from duodiff_pipeline.pipelines.switch_search.nodes import choose_schedules

BACKBONES = ("shallow", "middle", "deep")
NOISE = NoiseSchedule()
SETTINGS = Evaluation(
    seeds=(1, 2, 3, 4, 5),
    images=None,
    more_metrics=(),
    timed_batches=(1,),
    solver={"name": "ddim", "steps": 20},
    schedules=3,
    exit_thresholds=(),
    middle="middle",
    grid_images=1,
)


@pytest.fixture
def bank(make_uvit, make_stored) -> NetworkBank:
    depths = {"shallow": 1, "middle": 3, "deep": 5}
    return NetworkBank({name: make_stored(make_uvit(depth, depth=depth)) for name, depth in depths.items()})


def evaluated(bank, *chosen) -> dict[str, EvaluatedPlan]:
    grid = Solver("ddim", 10).grid(NOISE)
    schedules = []
    for counts in chosen:
        schedule = StageSchedule.from_counts(list(counts.values()), grid, list(counts), NOISE)
        edges, serves = list(schedule.edges), list(schedule.serves)
        schedules.append({"solver": "ddim", "steps": 10, "edges": edges, "serves": serves})
    plans = evaluated_plans(schedules, SETTINGS, bank, BACKBONES, NOISE)
    assert len({one.plan.name for one in plans}) == len(plans)
    return {one.plan.name: one for one in plans}


def test_three_stages_are_evaluated_with_their_controls(bank):
    plans = evaluated(bank, {"shallow": 3, "middle": 4, "deep": 3})
    duodiff = plans["duodiff ddim 10 k=3,7"]
    assert (duodiff.role, duodiff.plan.runs) == ("duodiff", "3 shallow, 4 middle, 3 deep")
    controls = {name: one.plan.runs for name, one in plans.items() if one.control_of == "duodiff ddim 10 k=3,7"}
    assert controls == {
        "control fewer steps ddim 6": "6 deep",
        "control reversed ddim 10 k=3,7": "3 deep, 4 middle, 3 shallow",
        "control middle ddim 10": "10 middle",
    }
    assert {"deep ddim 20", "shallow ddim 20", "deep ddim 10"} < set(plans)


def test_a_dropped_history_is_held_against_networks_alone_that_have_no_edge(bank):
    chosen = {"solver": "unipc", "steps": 10, "history": "dropped", "edges": [500.0], "serves": ["shallow", "deep"]}
    plans = [one.plan for one in evaluated_plans([chosen], SETTINGS, bank, BACKBONES, NOISE)]
    assert {plan.name: plan.solver.history for plan in plans if plan.solver.name == "unipc"} == {
        "deep unipc 10": "carried",
        "duodiff unipc history dropped 10 k=5": "dropped",
        "control fewer steps unipc 6": "carried",
        "control reversed unipc history dropped 10 k=5": "dropped",
        "control middle unipc 10": "carried",
    }
    assert all(SamplingPlan.from_dict(plan.to_dict()) == plan for plan in plans)


def test_schedules_of_other_networks_at_the_same_switch_are_told_apart(bank):
    pairs = [("shallow", "deep"), ("shallow", "middle"), ("middle", "deep")]
    plans = evaluated(bank, *({first: 5, last: 5} for first, last in pairs))
    duodiffs = {name: one.plan.schedule.serves for name, one in plans.items() if one.role == "duodiff"}
    assert duodiffs == {
        "duodiff ddim 10 k=5": pairs[0],
        "duodiff ddim 10 k=5 shallow-middle": pairs[1],
        "duodiff ddim 10 k=5 middle-deep": pairs[2],
    }
    reversed_serves = {one.plan.schedule.serves for name, one in plans.items() if "reversed" in name}
    assert reversed_serves == {serves[::-1] for serves in pairs}


def test_adaptive_plans_leave_by_the_patience_of_the_variant(bank):
    settings = SETTINGS.model_copy(update={"exit_thresholds": (0.05, 0.08)})
    plans = evaluated_plans([], settings, bank, BACKBONES, NOISE, exit_patience=1)
    adaptive = [one.plan for one in plans if one.role == "adadiff"]
    assert [(plan.name, plan.exit_threshold, plan.exit_patience) for plan in adaptive] == [
        ("adadiff ddim 20 u<=0.05", 0.05, 1),
        ("adadiff ddim 20 u<=0.08", 0.08, 1),
    ]


def make_search() -> SwitchSearch:
    space = {"solvers": ("ddim",), "steps": (2,), "history": ("carried",), "backbones": BACKBONES}
    budgets = {"budgets": (), "budget_trials": 1, "rungs": ()}
    where = {"stages": (1, 2, 3), "edges_by": ("switch",), "memory_mb": None, "storage": None, "by_parts": ()}
    return SwitchSearch(n_trials=1, images=None, seed=0, **space, **budgets, **where)


@pytest.mark.parametrize("kind", ["early_exits", "shared_exits"])
def test_exits_with_a_network_of_their_own_need_no_other_in_memory(
    bank, make_exits, make_shared_exits, make_stored, kind
):
    deep = bank.backbones["deep"]
    make = {"early_exits": make_exits, "shared_exits": make_shared_exits}[kind]
    exits = make_stored(make(deep.module), kind, backbone_sha256=deep.sha256)
    stored = {f"network_{name}": network for name, network in bank.backbones.items()} | {"network_early_exits": exits}
    curves = {f"curve_{name}": {"training_gmacs": 1.0} for name in (*bank.backbones, "early_exits")}
    settings = SETTINGS.model_copy(update={"exit_thresholds": (0.05,)})
    early_exit = EarlyExit(backbone="deep", variant="duodiff", probe="linear", patience=None, steps=1)
    search = make_search()
    noise = Noise(kind="linear", timesteps=1000)
    sampling = Sampling(micro_batch_images=8, guidance=1.0)
    plans = plan_evaluation([], settings, search, early_exit, noise, sampling, **stored, **curves)
    (adaptive,) = [plan for plan in plans if plan["role"] == "adadiff"]
    alone = kind == "shared_exits"
    assert adaptive["resident_parameters"] == exits.parameters + (0 if alone else deep.parameters)
    assert adaptive["training_gmacs"] == 2.0  # it was trained from the deep one


def test_a_front_of_three_stages_is_chosen():
    import pandas as pd

    common = {"solver": "ddim", "steps": 10, "history": "carried", "edges_by": "switch"}
    rows = [
        {"plan": "a", "edges": [], "serves": ["deep"], "fid": 5.0, "gmacs": 5.0, "on_front": True},
        {"plan": "b", "edges": [700.0, 300.0], "serves": list(BACKBONES), "fid": 6.0, "gmacs": 3.0, "on_front": True},
        {"plan": "c", "edges": [500.0], "serves": ["middle", "deep"], "fid": 9.0, "gmacs": 2.0, "on_front": True},
    ]
    trials = pd.DataFrame([{"trial": i, **common, **row} for i, row in enumerate(rows)])
    chosen = choose_schedules(trials, 2)
    assert [(one["trial"], one["edges"], one["serves"], one["controls"]) for one in chosen] == [
        (1, [700.0, 300.0], list(BACKBONES), True),
        (2, [500.0], ["middle", "deep"], True),
        (0, [], ["deep"], False),
    ]
    assert [(one["trial"], one["controls"]) for one in choose_schedules(trials, 1)] == [
        (1, True),
        (2, False),
        (0, False),
    ]


def test_the_rest_of_the_front_is_measured_again_without_controls(bank):
    common = {"solver": "ddim", "steps": 10, "controls": False}
    chosen = [
        {**common, "edges": [], "serves": ["deep"]},
        {**common, "edges": [], "serves": ["middle"]},
        {**common, "edges": [], "serves": ["shallow"]},
        {**common, "edges": [500.0], "serves": ["shallow", "middle"]},
    ]
    plans = evaluated_plans(chosen, SETTINGS, bank, BACKBONES, NOISE)
    found = [(one.plan.name, one.role) for one in plans if one.plan.solver.steps == 10]
    assert found == [
        ("deep ddim 10", "deep"),
        ("middle ddim 10", "front"),
        ("shallow ddim 10", "shallow"),
        ("duodiff ddim 10 k=5 shallow-middle", "front"),
    ]
    assert not any(one.control_of for one in plans)


def test_what_learnt_one_stage_has_no_order_reversed(bank, make_uvit, make_stored):
    early = make_stored(make_uvit(9, depth=1), timestep_range=(400, 1000))
    bank = NetworkBank({"early": early, **bank.backbones})
    grid = Solver("ddim", 10).grid(NOISE)
    schedule = StageSchedule.from_switch(5, grid, ("early", "deep"), NOISE)
    chosen = [{"solver": "ddim", "steps": 10, "edges": list(schedule.edges), "serves": list(schedule.serves)}]
    plans = evaluated_plans(chosen, SETTINGS, bank, ("early", *BACKBONES), NOISE)
    names = [one.plan.name for one in plans]
    assert names[:2] == ["deep ddim 20", "shallow ddim 20"]
    assert "duodiff ddim 10 k=5 early-deep" in names
    assert not any("reversed" in name for name in names)
    for one in plans:
        bank.denoiser(one.plan)  # each serves only where it was trained


ASE = Ase(
    backbone="deep",
    schedule="demo",
    depths=None,
    threshold=None,
    dropped_first="outer",
    weighting="uniform",
    steps=1,
    learning_rate=1e-4,
    ema_decay=0.9,
    solvers=({"name": "ddpm", "steps": 20}, {"name": "ddim", "steps": 20}, {"name": "dpmsolver++", "steps": 10}),
    candidates=2,
)


@pytest.fixture
def with_ase(bank, make_uvit, make_stored) -> NetworkBank:
    deep = bank.backbones["deep"]
    exits = ExitSchedule((5, 5, 4, 4, 4, 4, 3, 3, 3, 3), NOISE).to_dict()
    ase = make_stored(make_uvit(6, depth=5), exit_schedule=exits, backbone_sha256=deep.sha256)
    return NetworkBank({**bank.backbones, "ase": ase})


def test_an_exit_schedule_is_held_against_its_whole_network_with_every_solver(with_ase):
    plans = {one.plan.name: one for one in evaluated_plans([], SETTINGS, with_ase, BACKBONES, NOISE, ase=ASE)}
    assert [name for name, one in plans.items() if one.role == "ase"] == [
        "ase demo ddpm 20",
        "ase demo ddim 20",
        "ase demo dpmsolver++ 10",
    ]
    assert {"deep ddpm 20", "deep ddim 20", "deep dpmsolver++ 10"} < set(plans)
    assert plans["ase demo ddim 20"].plan.runs == "8 ase/3, 8 ase/4, 4 ase/5"
    controls = [name for name, one in plans.items() if one.control_of == "ase demo ddim 20"]
    assert controls == ["control fewer steps ddim 16", "control duodiff ddim 20 k=6", "control middle ddim 26"]
    assert plans["control duodiff ddim 20 k=6"].plan.runs == "6 shallow, 14 deep"
    for name in controls:
        cost, own = (with_ase.static_gmacs(plans[each].plan) for each in (name, "ase demo ddim 20"))
        assert cost == pytest.approx(own, rel=0.5 / len(plans[name].plan.grid) + 1e-9)
    assert all(SamplingPlan.from_dict(one.plan.to_dict()) == one.plan for one in plans.values())
    untimed = {one.role for one in plans.values() if not one.timed}
    assert untimed == {"control"}


def test_early_exits_stand_beside_an_exit_schedule_with_each_of_its_solvers(with_ase):
    settings = SETTINGS.model_copy(update={"exit_thresholds": (0.05, 0.1)})
    plans = evaluated_plans([], settings, with_ase, BACKBONES, NOISE, ase=ASE)
    assert [one.plan.name for one in plans if one.role == "adadiff"] == [
        f"adadiff {solver} u<={u}" for solver in ("ddim 20", "ddpm 20", "dpmsolver++ 10") for u in ("0.05", "0.1")
    ]


def test_the_whole_of_another_backbone_is_a_control_that_is_timed(with_ase):
    tuned = ASE.model_copy(update={"backbone": "middle"})
    plans = {one.plan.name: one for one in evaluated_plans([], SETTINGS, with_ase, BACKBONES, NOISE, ase=tuned)}
    whole = plans["control middle ddim 20"]
    assert (whole.role, whole.whole, whole.timed) == ("control", True, True)


def test_a_whole_network_that_is_a_control_already_is_timed_all_the_same(with_ase):
    """The deep network with fewer steps than 20 is all of what 16 steps leave blocks out of."""
    twice = Ase.model_validate({**ASE.model_dump(), "solvers": [{"name": "ddim", "steps": n} for n in (20, 16)]})
    plans = {one.plan.name: one for one in evaluated_plans([], SETTINGS, with_ase, BACKBONES, NOISE, ase=twice)}
    both = plans["control fewer steps ddim 16"]
    assert (both.role, both.control_of, both.timed) == ("control", "ase demo ddim 20", True)
    assert "deep ddim 16" not in plans
    assert not plans["control middle ddim 26"].timed


def test_two_plans_of_one_name_are_refused(with_ase):
    common = {"solver": "ddim", "steps": 10, "history": "carried", "serves": ["ase/3", "ase/5"]}
    choices = [{**common, "edges": [edge]} for edge in (500.0, 300.0)]
    with pytest.raises(InputError, match=r"ase searched ddim 10 would be two plans, 5 ase/3, 5 ase/5 and 7 ase/3, 3"):
        evaluated_plans(choices, SETTINGS, with_ase, BACKBONES, NOISE, ase=ASE)


def test_the_searched_exit_schedule_says_that_it_was_not_trained_for(with_ase, make_exits, make_stored):
    choice = {"solver": "ddim", "steps": 10, "history": "carried", "edges": [500.0], "serves": ["ase/3", "ase/5"]}
    deep = with_ase.backbones["deep"]
    exits = make_stored(make_exits(deep.module), "early_exits", backbone_sha256=deep.sha256)
    stored = {f"network_{name}": network for name, network in with_ase.backbones.items()}
    stored |= {"network_early_exits": exits}
    prices = {"shallow": 1.0, "middle": 2.0, "deep": 4.0, "ase": 0.5, "early_exits": 0.25}
    curves = {f"curve_{name}": {"training_gmacs": price} for name, price in prices.items()}
    early_exit = EarlyExit(backbone="deep", variant="duodiff", probe="linear", patience=None, steps=1)
    search = make_search()
    noise = Noise(kind="linear", timesteps=1000)
    sampling = Sampling(micro_batch_images=8, guidance=1.0)
    plans = plan_evaluation([choice], SETTINGS, search, early_exit, noise, sampling, ASE, **stored, **curves)
    described = {plan["name"]: plan for plan in plans}
    assert described["ase searched ddim 10"]["runs"] == "5 ase/3, 5 ase/5"
    assert {name: plan["note"] for name, plan in described.items() if plan["note"]} == {
        "ase searched ddim 10": "sampled with another exit schedule than it was trained for"
    }
    for name in ("ase searched ddim 10", "ase demo ddim 20"):
        assert described[name]["resident_parameters"] == deep.parameters  # one set of weights for all depths
        assert described[name]["training_gmacs"] == 4.5  # the deep network's, and its fine-tuning
    assert {plan["role"] for plan in plans} == {"deep", "shallow", "ase", "control"}
