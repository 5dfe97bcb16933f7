import warnings
from itertools import groupby

import pytest
from optuna.trial import FixedTrial

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.search.space import Candidate, SearchSpace

NOISE = NoiseSchedule()
CANDIDATES = (
    Candidate("exits at 0.1", "exit_statistics", (620.0,)),
    Candidate("exits at 0.2", "exit_statistics", (710.5,)),
    Candidate("halves", "uniform", (500.0,)),
    Candidate("thirds", "uniform", (667.0, 333.0)),
    Candidate("both ends", "similarity", (900.0, 100.0)),
    Candidate("hardly a middle", "similarity", (900.0, 899.5)),
)
ORDERS = ["a", "b", "c", "a, b", "a, c", "b, c", "a, b, c"]


def space(**changes) -> SearchSpace:
    options = {"solvers": ("ddim", "dpmsolver++"), "steps": (10, 20), "backbones": ("a", "b", "c")}
    return SearchSpace(**{**options, "candidates": CANDIDATES, "noise": NOISE, **changes})


def fixed(parameters, number=7) -> FixedTrial:
    return FixedTrial({"solver": "ddim", "steps": 20, **parameters}, number)


def suggest(parameters):
    return space().suggest(fixed(parameters)).plan


@pytest.mark.parametrize(("share", "k"), [(0.0, 1), (0.5, 10), (0.71, 14), (0.9999, 19), (1.0, 19)])
def test_a_share_of_the_evaluations_makes_a_switch(share, k):
    plan = suggest({"serves": "a, c", "edges of 2 stages by": "switch", "share of stage 1": share})
    assert plan.solver == Solver("ddim", 20)
    assert plan.switches == (k,)
    assert plan.schedule.assignment(plan.grid) == ("a",) * k + ("c",) * (20 - k)
    assert (plan.name, plan.schedule.noise, plan.exit_threshold) == ("trial 7", NOISE, None)


@pytest.mark.parametrize(
    ("first", "second", "runs"),
    [
        (0.0, 0.0, "1 a, 1 b, 18 c"),
        (0.0, 1.0, "1 a, 18 b, 1 c"),
        (1.0, 0.5, "18 a, 1 b, 1 c"),
        (0.5, 0.5, "10 a, 5 b, 5 c"),
    ],
)
def test_shares_of_what_is_left_make_three_stages(first, second, runs):
    shares = {"share of stage 1": first, "share of stage 2": second}
    assert suggest({"serves": "a, b, c", "edges of 3 stages by": "switch", **shares}).runs == runs


def test_every_split_into_stages_that_serve_can_be_proposed():
    shares = [i / 50 for i in range(51)]
    own = space(steps=(5,))
    base = {"solver": "ddim", "steps": 5, "serves": "a, b, c", "edges of 3 stages by": "switch"}
    proposed = {
        own.suggest(FixedTrial({**base, "share of stage 1": first, "share of stage 2": second})).plan.runs
        for first in shares
        for second in shares
    }
    assert proposed == {f"{a} a, {b} b, {5 - a - b} c" for a in (1, 2, 3) for b in range(1, 5 - a)}


@pytest.mark.parametrize(("steps", "runs"), [(1, "1 a"), (2, "1 a, 1 b"), (3, "1 a, 1 b, 1 c")])
def test_with_fewer_evaluations_than_stages_the_last_serve_nothing_and_are_left_out(steps, runs):
    shares = {"share of stage 1": 1.0, "share of stage 2": 1.0}
    parameters = {"steps": steps, "serves": "a, b, c", "edges of 3 stages by": "switch", **shares}
    plan = space(steps=(1, 2, 3)).suggest(fixed(parameters)).plan
    assert plan.runs == runs
    assert len(plan.schedule.serves) == steps


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.label)
def test_candidate_edges_are_taken_as_they_are(candidate):
    stages = len(candidate.edges) + 1
    serves = ("a", "b", "c")[:stages]
    chosen = {
        f"edges of {stages} stages by": candidate.method,
        f"{candidate.method} of {stages} stages": candidate.label,
    }
    proposal = space().suggest(fixed({"serves": ", ".join(serves), **chosen}))
    assert proposal.edges_by == candidate.method
    if candidate.label == "hardly a middle":  # which serves none of the evaluations
        assert (proposal.plan.schedule.edges, proposal.plan.schedule.serves) == ((899.5,), ("a", "c"))
    else:
        assert (proposal.plan.schedule.edges, proposal.plan.schedule.serves) == (candidate.edges, serves)


@pytest.mark.parametrize("serves", ["a", "b", "c"])
def test_one_stage_has_one_network_and_no_edge(serves):
    proposal = space().suggest(fixed({"serves": serves}))
    schedule = proposal.plan.schedule
    assert (proposal.edges_by, schedule.edges, schedule.serves) == ("one stage", (), (serves,))


def offered(parameters, **changes) -> dict[str, list]:
    trial = fixed(parameters)
    space(**changes).suggest(trial)
    return {name: list(d.choices) for name, d in trial.distributions.items() if hasattr(d, "choices")}


def test_choices_offered_are_those_of_the_space():
    two = {"edges of 2 stages by": "exit_statistics", "exit_statistics of 2 stages": "exits at 0.1"}
    assert offered({"serves": "a, c", **two}) == {
        "solver": ["ddim", "dpmsolver++"],
        "steps": [10, 20],
        "serves": ORDERS,
        "edges of 2 stages by": ["switch", "exit_statistics", "uniform"],
        "exit_statistics of 2 stages": ["exits at 0.1", "exits at 0.2"],
    }
    three = offered({"serves": "a, b, c", "edges of 3 stages by": "uniform", "uniform of 3 stages": "thirds"})
    assert three["edges of 3 stages by"] == ["switch", "similarity", "uniform"]
    assert three["uniform of 3 stages"] == ["thirds"]


def test_without_candidates_there_are_switches_and_single_stages():
    parameters = {"serves": "a, b", "edges of 2 stages by": "switch", "share of stage 1": 0.3}
    assert offered(parameters, candidates=())["edges of 2 stages by"] == ["switch"]


def test_two_backbones_make_two_stages_at_most():
    assert offered({"serves": "c"}, backbones=("a", "c"))["serves"] == ["a", "c", "a, c"]


def test_a_history_to_choose_is_offered_where_there_is_one_and_an_edge():
    both = ("carried", "dropped")
    two = {"edges of 2 stages by": "switch", "share of stage 1": 0.5}
    assert "history" not in offered({"solver": "ddim", "serves": "a, c", **two}, history=both)
    assert "history" not in offered({"solver": "dpmsolver++", "serves": "a"}, history=both)
    chosen = {"solver": "dpmsolver++", "serves": "a, c", **two, "history": "dropped"}
    assert offered(chosen, history=both)["history"] == list(both)
    assert space(history=both).suggest(fixed(chosen)).plan.solver == Solver("dpmsolver++", 20, history="dropped")


@pytest.mark.parametrize(("solver", "history"), [("dpmsolver++", "dropped"), ("ddim", "carried")])
def test_the_only_history_is_taken_where_there_is_one(solver, history):
    parameters = {"solver": solver, "serves": "a, c", "edges of 2 stages by": "switch", "share of stage 1": 0.5}
    plan = space(history=("dropped",)).suggest(fixed(parameters)).plan
    assert plan.solver == Solver(solver, 20, history=history)


def test_anchors_choose_a_history_where_there_is_a_choice():
    own = space(history=("dropped", "carried"))
    *_, ddim, dpm = [own.proposal(anchor).plan for anchor in own.anchors()]
    assert (ddim.solver.history, dpm.solver.history) == ("carried", "dropped")


def test_switches_of_heun_part_no_evaluations_at_one_timestep():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for share in (0.0, 0.3, 0.7, 1.0):
            parameters = {
                "solver": "heun",
                "serves": "a, c",
                "edges of 2 stages by": "switch",
                "share of stage 1": share,
            }
            plan = space(solvers=("heun",)).suggest(fixed(parameters)).plan
            assert plan.switches[0] in plan.solver.switches[1:-1]


def test_every_random_proposal_is_valid_and_keeps_the_order_of_the_backbones():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    own = space(steps=(1, 2, 3, 10))
    plans = [own.suggest(study.ask()).plan for _ in range(300)]
    for plan in plans:
        assigned = plan.schedule.assignment(plan.grid)
        assert [name for name, _ in groupby(assigned)] == sorted(set(assigned)) == list(plan.schedule.serves)
    assert {", ".join(plan.schedule.serves) for plan in plans} == set(ORDERS)


def test_anchors_are_every_network_alone_at_every_solver_and_number_of_steps_what_exits_suggest_and_equal_parts():
    *plans, early, late, ddim, dpm = [space().proposal(anchor).plan for anchor in space().anchors()]
    assert (ddim.solver, dpm.solver) == (Solver("ddim", 20), Solver("dpmsolver++", 20))
    assert ddim.runs == dpm.runs == "7 a, 7 b, 6 c"
    assert (early.solver, early.runs) == (Solver("ddim", 20), "8 a, 12 c")  # timesteps 999, 949, ... before 620
    assert (late.solver, late.runs) == (Solver("ddim", 20), "6 a, 14 c")
    assert [(plan.solver.name, plan.solver.steps, plan.schedule.serves) for plan in plans] == [
        (solver, steps, (network,))
        for solver in ("ddim", "dpmsolver++")
        for steps in (10, 20)
        for network in ("c", "b", "a")
    ]


def first_stage() -> SearchSpace:
    """d learnt timesteps 600 and above."""
    return space(backbones=("d", "a", "c"), lowest={"d": 600.0})


def test_what_learnt_one_stage_serves_first_and_never_alone():
    assert [", ".join(order) for order in first_stage().orders] == ["a", "c", "d, a", "d, c", "a, c", "d, a, c"]
    assert {anchor["serves"] for anchor in first_stage().anchors()} == {"a", "c", "a, c"}


@pytest.mark.parametrize(("share", "k"), [(0.0, 1), (0.5, 5), (1.0, 8)])
def test_its_switch_stays_within_what_it_learnt(share, k):
    """Of 20 evaluations at 999, 949, ... the last at 600 or above is the eighth."""
    parameters = {"serves": "d, c", "edges of 2 stages after d by": "switch", "share of stage 1": share}
    plan = first_stage().suggest(fixed(parameters)).plan
    assert plan.switches == (k,)
    assert all(n >= 600 for n, who in zip(plan.grid, plan.schedule.assignment(plan.grid), strict=True) if who == "d")


def test_four_networks_share_the_timesteps_and_each_stays_within_what_it_learnt():
    own = space(backbones=("d", "a", "b", "c"), lowest={"d": 600.0}, stages=(1, 2, 3, 4))
    assert "d, a, b, c" in {", ".join(order) for order in own.orders}
    stages = "edges of 4 stages after d by"
    shares = {f"share of stage {i}": share for i, share in ((1, 0.5), (2, 0.5), (3, 0.5))}
    plan = own.suggest(fixed({"serves": "d, a, b, c", stages: "switch", **shares})).plan
    assert plan.schedule.serves == ("d", "a", "b", "c")
    served = plan.schedule.assignment(plan.grid)
    assert set(served) == {"d", "a", "b", "c"}
    assert all(n >= 600 for n, who in zip(plan.grid, served, strict=True) if who == "d")


def test_clusterings_that_would_lead_it_beyond_are_not_offered():
    trial = fixed(
        {
            "serves": "d, c",
            "edges of 2 stages after d by": "exit_statistics",
            "exit_statistics of 2 stages after d": "exits at 0.2",
        }
    )
    assert first_stage().suggest(trial).plan.schedule.edges == (710.5,)
    choices = trial.distributions["edges of 2 stages after d by"].choices
    assert choices == ("switch", "exit_statistics")  # uniform has its edge at 500
    assert trial.distributions["exit_statistics of 2 stages after d"].choices == ("exits at 0.1", "exits at 0.2")


EXITS = tuple(ExitSchedule(depths, NOISE).stages("ase") for depths in ((5, 3), (5, 4, 3), (5, 5)))


@pytest.mark.parametrize(
    ("which", "runs"), [(0, "10 ase/3, 10 ase/5"), (1, "7 ase/3, 7 ase/4, 6 ase/5"), (2, "20 ase/5")]
)
def test_an_exit_schedule_is_one_more_choice_of_who_serves(which, runs):
    own = space(by_parts={"exit schedule": EXITS})
    proposal = own.suggest(fixed({"serves": "exit schedule", "exit schedule": which}))
    assert (proposal.plan.runs, proposal.edges_by) == (runs, "exit schedule")
    assert offered({"serves": "a"}, by_parts={"exit schedule": EXITS})["serves"] == [*ORDERS, "exit schedule"]
    assert own.suggest(fixed({"serves": "a"})).plan.runs == "20 a"


def test_an_exit_schedule_has_a_history_too_and_an_anchor():
    own = space(by_parts={"exit schedule": EXITS}, history=("carried", "dropped"))
    *_, ddim, dpm = [own.suggest(FixedTrial(anchor)).plan for anchor in own.anchors()]
    assert (ddim.runs, dpm.runs) == ("7 ase/3, 7 ase/4, 6 ase/5",) * 2
    assert len(own.anchors()) == len(space().anchors()) + 2
    chosen = {"solver": "dpmsolver++", "serves": "exit schedule", "exit schedule": 0, "history": "dropped"}
    assert own.suggest(fixed(chosen)).plan.solver == Solver("dpmsolver++", 20, history="dropped")


def test_decoders_of_multistage_networks_are_one_more_choice_beside_exit_schedules():
    nets = tuple(StageSchedule.of_parts(name, edges, NOISE) for name, edges in (("u", (700, 300)), ("v", (500,))))
    parts = {"exit schedule": EXITS, "decoders": nets}
    own = space(by_parts=parts)
    proposal = own.suggest(fixed({"serves": "decoders", "decoders": 0}))
    assert (proposal.plan.runs, proposal.edges_by) == ("6 u/0, 8 u/1, 6 u/2", "decoders")
    assert own.suggest(fixed({"serves": "decoders", "decoders": 1})).plan.runs == "10 v/0, 10 v/1"
    assert offered({"serves": "a"}, by_parts=parts)["serves"] == [*ORDERS, "exit schedule", "decoders"]
    assert own.may_sample("serves", "decoders")
    assert not space().may_sample("serves", "a")
    anchored = [own.suggest(FixedTrial(anchor)).plan.runs for anchor in own.anchors()]
    assert anchored.count("10 v/0, 10 v/1") == 2  # with each solver's most steps


DEPTH = {"a": 1, "b": 2, "c": 3, "d": 1}


def cost(plan) -> float:
    return float(sum(DEPTH[name] for name in plan.schedule.assignment(plan.grid)))


def walked(own: SearchSpace, at_most: float = float("inf")) -> list[str]:
    plans = [own.proposal(parameters).plan for parameters in own.walk(cost, at_most)]
    return [f"{plan.solver.steps}: {plan.runs}" for plan in plans]


def test_a_walk_comes_by_every_network_alone_and_every_single_switch_once_the_coarse_ones_first():
    own = space(solvers=("ddim",), steps=(4,), backbones=("a", "c"))
    assert walked(own) == ["4: 4 c", "4: 2 a, 2 c", "4: 1 a, 3 c", "4: 3 a, 1 c", "4: 4 a"]
    both = walked(space(steps=(4, 8)))
    switches = {f"{s}: {k} {x}, {s - k} {y}" for s in (4, 8) for k in range(1, s) for x, y in ("ab", "ac", "bc")}
    assert set(both) == switches | {f"{s}: {s} {name}" for s in (4, 8) for name in "abc"}
    assert len(both) == 2 * len(set(both))  # with either solver


def test_a_walk_within_a_budget_leaves_out_what_costs_more_and_begins_with_the_dearest():
    own = space(solvers=("ddim",), steps=(4, 8), backbones=("a", "c"))
    assert walked(own, 10) == ["4: 1 a, 3 c", "8: 7 a, 1 c", "4: 3 a, 1 c", "8: 8 a", "4: 2 a, 2 c", "4: 4 a"]
    assert walked(own, 3) == []


def test_a_walk_tries_every_history_that_a_solver_can_have():
    own = space(steps=(3,), backbones=("a", "c"), history=("carried", "dropped"))
    plans = [own.proposal(parameters).plan for parameters in own.walk(cost)]
    histories = [plan.solver.history for plan in plans if plan.runs == "1 a, 2 c" and plan.solver.name == "dpmsolver++"]
    assert sorted(histories) == ["carried", "dropped"]
    assert len(plans) == 4 + 6  # of a network alone no history is dropped


def test_a_walk_of_heun_parts_no_evaluations_at_one_timestep():
    own = space(solvers=("heun",), steps=(3,), backbones=("a", "c"))
    assert walked(own) == ["3: 5 c", "3: 3 a, 2 c", "3: 1 a, 4 c", "3: 5 a"]


def test_what_learnt_one_stage_is_walked_no_further_than_that():
    """Of 5 evaluations at 999, 799, 599, ... the first two are at 600 or above."""
    own = space(solvers=("ddim",), steps=(5,), backbones=("d", "a", "c"), lowest={"d": 600.0})
    from_d = [runs for runs in walked(own) if "d" in runs]
    assert sorted(from_d) == ["5: 1 d, 4 a", "5: 1 d, 4 c", "5: 2 d, 3 a", "5: 2 d, 3 c"]


@pytest.mark.parametrize(
    ("limits", "orders", "samples"),
    [
        ({}, ORDERS, True),
        ({"stages": (1, 2)}, ORDERS[:-1], True),  # clusterings of two stages
        ({"stages": (1, 2), "candidates": ()}, ORDERS[:-1], False),
        ({"stages": (3,)}, ORDERS[-1:], True),
        ({"candidates": ()}, ORDERS, True),
        ({"by_switch": False}, ORDERS, True),
        ({"by_switch": False, "candidates": CANDIDATES[3:4]}, ["a", "b", "c", "a, b, c"], True),
        ({"fits": lambda serves: len(serves) < 2}, ["a", "b", "c"], False),
        ({"fits": lambda serves: "c" not in serves}, ["a", "b", "a, b"], True),
    ],
)
def test_every_dimension_can_be_switched_off(limits, orders, samples):
    own = space(**limits)
    assert [", ".join(order) for order in own.orders] == orders
    assert own.samples == samples
    assert {", ".join(own.proposal(anchor).plan.schedule.serves) for anchor in own.anchors()} <= set(orders)
    assert {own.proposal(one).edges_by for one in own.walk(cost)} <= {"one stage", "switch"}
    if limits.get("by_switch") is False:
        assert {len(own.proposal(one).plan.schedule.serves) for one in own.walk(cost)} == {1}


def test_what_is_walked_through_may_not_be_sampled():
    own = space()
    assert [order for order in ORDERS if own.may_sample("serves", order)] == ["a, b", "a, c", "b, c", "a, b, c"]
    assert not own.may_sample("edges of 2 stages by", "switch")
    assert own.may_sample("edges of 2 stages by", "uniform")
    assert own.may_sample("edges of 3 stages by", "switch")
    without = space(candidates=CANDIDATES[3:])
    assert [order for order in ORDERS if without.may_sample("serves", order)] == ["a, b, c"]


def test_proposals_that_come_to_the_same_plan_are_one():
    by_exits = {"edges of 2 stages by": "exit_statistics", "exit_statistics of 2 stages": "exits at 0.1"}
    by_switch = {"edges of 2 stages by": "switch", "share of stage 1": 0.4}  # 8 of 20
    parameters = [{"solver": "ddim", "steps": 20, "serves": "a, c", **edges} for edges in (by_exits, by_switch)]
    assert space().distinct(parameters) == parameters[:1]
    assert space().distinct([parameters[0], {**parameters[1], "steps": 10}, parameters[1]]) == [
        parameters[0],
        {**parameters[1], "steps": 10},
    ]
