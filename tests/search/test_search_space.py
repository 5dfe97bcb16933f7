import pytest
from optuna.trial import FixedTrial

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.search.space import SearchSpace

NOISE = NoiseSchedule()
CANDIDATES = {
    "exit_statistics: threshold=0.1": 620.0,
    "exit_statistics: threshold=0.2": 710.5,
    "uniform: timestep": 500.0,
    "similarity: eta=0.1, alpha=0.9": 333.3,
}


def space(**changes) -> SearchSpace:
    options = {"solvers": ("ddim", "dpmsolver++"), "steps": (10, 20), "candidates": CANDIDATES}
    return SearchSpace(**{**options, "first": "shallow", "last": "deep", "noise": NOISE, **changes})


def suggest(parameters, number=7):
    return space().suggest(FixedTrial({"solver": "ddim", "steps": 20, **parameters}, number))


@pytest.mark.parametrize("k", [0, 1, 13, 20])
def test_a_switch_is_where_k_says(k):
    plan = suggest({"edges_by": "switch", "k of 20": k})
    assert plan.solver == Solver("ddim", 20)
    assert plan.switch == k
    assert plan.schedule.assignment(plan.grid) == ("shallow",) * k + ("deep",) * (20 - k)
    assert (plan.name, plan.schedule.noise, plan.exit_threshold) == ("trial 7", NOISE, None)


@pytest.mark.parametrize(("label", "edge"), CANDIDATES.items())
def test_a_candidate_edge_is_taken_as_it_is(label, edge):
    method = label.split(":")[0]
    plan = suggest({"edges_by": method, f"{method} edge": label})
    assert plan.schedule.edges == (edge,)
    assert plan.schedule.serves == ("shallow", "deep")


@pytest.mark.parametrize("serves", ["shallow", "deep"])
def test_one_stage_has_one_network_and_no_edge(serves):
    plan = suggest({"edges_by": "one stage", "serves": serves})
    assert (plan.schedule.edges, plan.schedule.serves, plan.switch) == ((), (serves,), None)


def test_choices_offered_are_those_of_the_space():
    trial = FixedTrial(
        {
            "solver": "ddim",
            "steps": 20,
            "edges_by": "exit_statistics",
            "exit_statistics edge": "exit_statistics: threshold=0.1",
        }
    )
    space().suggest(trial)
    offered = {name: set(getattr(d, "choices", ())) for name, d in trial.distributions.items()}
    assert offered["solver"] == {"ddim", "dpmsolver++"}
    assert offered["steps"] == {10, 20}
    assert offered["edges_by"] == {"switch", "one stage", "exit_statistics", "similarity", "uniform"}
    assert offered["exit_statistics edge"] == {"exit_statistics: threshold=0.1", "exit_statistics: threshold=0.2"}


def test_k_is_offered_from_no_evaluation_to_all_of_them():
    trial = FixedTrial({"solver": "ddim", "steps": 10, "edges_by": "switch", "k of 10": 3})
    space().suggest(trial)
    k = trial.distributions["k of 10"]
    assert (k.low, k.high) == (0, 10)


def test_without_candidates_there_are_switches_and_single_stages():
    trial = FixedTrial({"solver": "ddim", "steps": 10, "edges_by": "switch", "k of 10": 3})
    space(candidates={}).suggest(trial)
    assert set(trial.distributions["edges_by"].choices) == {"switch", "one stage"}


def test_anchors_are_every_network_alone_at_every_solver_and_number_of_steps():
    plans = [space().suggest(FixedTrial(anchor)) for anchor in space().anchors()]
    assert [(plan.solver.name, plan.solver.steps, plan.schedule.serves) for plan in plans] == [
        (solver, steps, (network,))
        for solver in ("ddim", "dpmsolver++")
        for steps in (10, 20)
        for network in ("deep", "shallow")
    ]
