"""Successive halving over edges, with made-up measurements."""

import pytest

from duodiff_pipeline.search.halving import Candidate, distinct, halve, spread

GRID = (999.0, 749.0, 499.0, 249.0)


def candidates(*edges: tuple[float, ...]) -> list[Candidate]:
    return [Candidate(f"method {i}", own) for i, own in enumerate(edges)]


def test_edges_between_the_same_timesteps_are_one_candidate_and_idle_stages_none():
    found = distinct(candidates((800, 300), (900.5, 260), (600, 300), (999.5, 300), (998, 990), (800, 300)), GRID)
    # (999.5, 300) leaves the first stage, and (998, 990) the second, without a timestep
    assert [(one.proposed_by, one.edges) for one in found] == [
        ("method 0; method 1; method 5", (800, 300)),
        ("method 2", (600, 300)),
    ]


def test_of_too_many_candidates_those_evenly_spread_are_trained():
    many = candidates(*((float(edge), 100.0) for edge in (300, 900, 500, 700, 400)))
    assert [one.edges[0] for one in spread(many, 3)] == [900, 500, 300]
    assert len(spread(many, 9)) == 5


def test_the_better_half_goes_on_and_the_best_of_the_last_rung_is_left():
    asked = []

    def measure(edges, rung):
        asked.append((edges[0], rung))
        return abs(edges[0] - 400) if rung else abs(edges[0] - 300)  # later rungs know better

    best, measured = halve(candidates(*((float(edge),) for edge in range(100, 700, 100))), 3, measure)
    assert [edge for edge, rung in asked if rung == 0] == [100, 200, 300, 400, 500, 600]
    assert sorted(edge for edge, rung in asked if rung == 1) == [200, 300, 400]
    assert best.edges == (400,)
    assert [one.rung for one in measured] == [0] * 6 + [1] * 3  # one alone needs no third rung
    assert [one.candidate.edges[0] for one in measured if one.goes_on] == [200, 300, 400, 400]


def test_with_one_rung_the_best_of_it_is_left():
    best, measured = halve(candidates((1.0,), (2.0,), (3.0,), (4.0,)), 1, lambda edges, rung: -edges[0])
    assert best.edges == (4.0,)
    assert sum(one.goes_on for one in measured) == 1


def test_without_candidates_there_is_nothing_to_choose():
    with pytest.raises(ValueError, match="no edges"):
        halve([], 2, lambda edges, rung: 0.0)
