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
    a, q = torch.randn(300, 300), torch.randn(2, 4, 200, 32)
    images, weight = torch.randn(4, 16, 32, 32), torch.randn(16, 16, 3, 3)
    products = {
        "matrices": lambda: a @ a @ a,
        "attention": lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q),
        "convolution": lambda: torch.nn.functional.conv2d(images, weight),
    }
    shares = {name: share_outside_matrix_products(run, 40) for name, run in products.items()}
    assert max(shares.values()) < 0.5, shares
    assert share_outside_matrix_products(lambda: (a.exp() + a.sin()).cumsum(0).sort()[0], 3) == 1
