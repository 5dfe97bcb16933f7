"""Which plans make a curve, and that each is measured once."""

import pandas as pd
import pytest

from duodiff_pipeline.config import SwitchCurves
from duodiff_pipeline.networks.plans import NetworkBank
from duodiff_pipeline.pipelines.switch_curves.nodes import curve_plans, role_of


@pytest.fixture
def bank(make_uvit, make_stored):
    return NetworkBank(
        {name: make_stored(make_uvit(depth=depth)) for name, depth in (("shallow", 1), ("middle", 3), ("deep", 7))}
    )


def plans(bank, noise, **settings) -> pd.DataFrame:
    options = {"solver": "ddim", "history": "carried", "steps": (6,), "controls": 2, **settings}
    found = curve_plans(SwitchCurves(**options), bank, noise)
    rows = [(role_of(p), p.solver.steps, p.switch, p.runs, bank.static_gmacs(p), p.name) for p in found]
    return pd.DataFrame(rows, columns=["role", "steps", "k", "runs", "gmacs", "name"])


def test_every_switch_is_there_once_from_deep_to_shallow(bank, noise):
    found = plans(bank, noise, controls=0)
    assert list(found["runs"]) == ["6 deep", *(f"{k} shallow, {6 - k} deep" for k in range(1, 6)), "6 shallow"]
    assert list(found["name"])[:2] == ["deep ddim 6", "duodiff ddim 6 k=1"]


def test_controls_stand_beside_the_ends_and_cost_what_their_switch_does(bank, noise):
    found = plans(bank, noise)
    assert set(found.loc[found["role"] == "reversed", "runs"]) == {"5 deep, 1 shallow", "1 deep, 5 shallow"}
    costs = found.set_index("name")["gmacs"]
    for k in (1, 5):
        cost = costs[f"duodiff ddim 6 k={k}"]
        assert costs[f"reversed ddim 6 k={6 - k}"] == pytest.approx(cost)
        for role in ("deep", "middle"):
            own = found[found["role"] == role]
            one_step = (own["gmacs"] / own["steps"]).iloc[0]
            assert (own["gmacs"] - cost).abs().min() <= one_step / 2 + 1e-12


def test_what_two_curves_share_is_measured_once(bank, noise):
    found = plans(bank, noise, steps=(3, 6), controls=9)
    assert found["name"].is_unique
    assert found["runs"].is_unique
    assert set(found.loc[found["role"] == "duodiff", "steps"]) == {3, 6}


def test_without_a_middle_network_there_is_no_such_control(bank, noise):
    two = NetworkBank({name: bank.backbones[name] for name in ("shallow", "deep")})
    assert set(plans(two, noise)["role"]) == {"shallow", "deep", "duodiff", "reversed"}


def test_a_single_step_has_no_switch_between(bank, noise):
    assert set(plans(bank, noise, steps=(1,))["role"]) == {"shallow", "deep", "middle"}


def test_the_switches_of_heun_part_no_evaluations_at_one_timestep(bank, noise):
    found = plans(bank, noise, solver="heun", steps=(4,))
    assert found.loc[found["role"] == "duodiff", "runs"].tolist() == [f"{k} shallow, {7 - k} deep" for k in (1, 3, 5)]
    assert set(found.loc[found["role"] == "reversed", "runs"]) == {"5 deep, 2 shallow", "1 deep, 6 shallow"}


def test_a_dropped_history_is_that_of_plans_with_a_switch(bank, noise):
    found = plans(bank, noise, solver="unipc", history="dropped")
    assert (
        found["name"].str.contains("history dropped").tolist() == found["role"].isin(["duodiff", "reversed"]).tolist()
    )


def test_what_learnt_the_first_stage_has_every_switch_within_it(bank, noise, make_uvit, make_stored):
    early = make_stored(make_uvit(depth=1), timestep_range=(600, 1000))
    found = plans(NetworkBank({**bank.backbones, "early": early}), noise, steps=(10,), controls=0)
    own = found[found["role"] == "early"]
    assert list(own["runs"]) == [f"{k} early, {10 - k} deep" for k in range(1, 5)]  # at 999, 899, 799, 699
    assert own["name"].iloc[0] == "early ddim 10 k=1"
