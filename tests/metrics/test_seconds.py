import time

import torch

from duodiff_pipeline.metrics.seconds import share_outside_matrix_products, time_in_turns


def test_runs_take_turns_after_a_round_that_does_not_count():
    calls = []

    def run(name, seconds):
        calls.append(name)
        time.sleep(seconds if len(calls) > 2 else 0.2)
        return torch.zeros(1)

    found = time_in_turns({"a": lambda: run("a", 0.005), "b": lambda: run("b", 0.02)}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 3, "b": 3}
    assert min(found["a"]) >= 0.005
    assert min(found["b"]) >= 0.02
    assert max(found["a"] + found["b"]) < 0.2


def test_where_the_time_goes():
    a = torch.randn(700, 700)
    with torch.inference_mode():
        assert share_outside_matrix_products(lambda: a @ a @ a, rounds=3) < 0.3
        assert share_outside_matrix_products(lambda: (a.exp() + a.sin()).cumsum(0).sort()[0], rounds=3) == 1
