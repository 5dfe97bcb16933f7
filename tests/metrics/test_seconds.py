import time

import torch

from duodiff_pipeline.metrics.seconds import profile_in_turns, time_in_turns


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
    a, q = torch.randn(300, 300), torch.randn(2, 4, 200, 32)
    images, weight = torch.randn(4, 16, 32, 32), torch.randn(16, 16, 3, 3)
    products = {
        "matrices": lambda: a @ a @ a,
        "attention": lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q),
        "convolution": lambda: torch.nn.functional.conv2d(images, weight),
    }
    profiles = profile_in_turns(products, 40)
    assert max(own.outside for own in profiles.values()) < 0.5, profiles
    (none,) = profile_in_turns({"": lambda: (a.exp() + a.sin()).cumsum(0).sort()[0]}, 3).values()
    assert none.outside == 1
    assert none.in_products == 0 < none.seconds


def test_a_profile_is_the_median_of_its_rounds_after_one_that_does_not_count():
    a, calls = torch.randn(100, 100), []

    def run(seconds):
        calls.append(seconds)
        time.sleep(seconds if len(calls) > 4 else 0.2)
        return a @ a

    found = profile_in_turns({"long": lambda: run(0.03), "short": lambda: run(0.01)}, 3)
    assert calls == [0.03, 0.03, 0.01, 0.01] * 4  # whole, and product by product
    assert 0.01 <= found["short"].seconds < 0.03 <= found["long"].seconds < 0.2
    assert all(0 < own.in_products < 0.01 for own in found.values())
    assert 0.5 < found["short"].outside < 1
