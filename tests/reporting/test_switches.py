import pytest
from report_examples import MORE, PLANS, exit_table, findings, parameters

from duodiff_pipeline.diffusion.stages import StageSchedule
from duodiff_pipeline.reporting.switches import SwitchRange, evaluated_switches, suggested_switches


def test_every_edge_in_the_range_of_an_evaluated_switch_comes_to_the_same():
    noise = parameters().noise.schedule()
    (plan, _) = findings().duodiffs
    (switch,) = evaluated_switches(plan, noise)
    grid = plan.solver.grid(noise)

    def assignment(edge):
        return StageSchedule((edge,), plan.serves, noise).assignment(grid)

    expected = StageSchedule(plan.edges, plan.serves, noise).assignment(grid)
    assert expected.count("shallow") == plan.k == 7
    assert assignment(switch.low + 1e-6) == assignment(switch.edge) == assignment(switch.high) == expected
    assert assignment(switch.low) != expected != assignment(switch.high + 1e-6)


def test_a_plan_of_three_stages_has_two_switches():
    noise = parameters().noise.schedule()
    fids = {name: plan[3] for name, plan in (PLANS | MORE).items()}
    plan = next(p for p in findings(fids).duodiffs if len(p.serves) == 3)
    first, second = evaluated_switches(plan, noise)
    assert (first.k, second.k) == (5, 12)
    assert [switch.label.split(", ")[1] for switch in (first, second)] == ["shallow to middle", "middle to deep"]
    # 20 trailing steps of 1000 stand at 999, 949, ...
    assert [(switch.high, switch.low) for switch in (first, second)] == [(799, 749), (449, 399)]
    grid, expected = plan.solver.grid(noise), StageSchedule(plan.edges, plan.serves, noise)
    moved = StageSchedule((first.high, second.low + 1e-6), plan.serves, noise)
    assert moved.assignment(grid) == expected.assignment(grid)


def test_suggested_switch_has_its_interval_in_timesteps():
    settings = parameters()
    table = exit_table(settings)
    threshold = settings.exit_statistics.thresholds[0]
    found = {"threshold": threshold, "message": "found", "k": 5, "k_low": 4, "k_high": 7, "timestep_edge": 909.0}
    none = {"threshold": threshold, "message": "none", "k": None, "k_low": None, "k_high": None, "timestep_edge": None}
    switch, nothing = suggested_switches([found, none], table, settings.noise.schedule())
    # 50 trailing steps of 1000 stand at 999, 979, ...
    assert (switch.k, switch.evaluations, switch.low, switch.edge, switch.high) == (5, 50, 869.0, 909.0, 929.0)
    assert (nothing.edge, nothing.low, nothing.high, nothing.message) == (None, None, None, "none")


@pytest.mark.parametrize(("low", "high", "meets"), [(0, 10, True), (5, 6, True), (10, 20, True), (11, 20, False)])
def test_meeting_ranges(low, high, meets):
    one = SwitchRange("", "", 1, 2, 5.0, 0.0, 10.0)
    other = SwitchRange("", "", 1, 2, 15.0, low, high)
    assert one.meets(other) == other.meets(one) == meets
    assert not one.meets(SwitchRange("", "", None, 2, None, None, None))
