"""Probes: closed forms, and their published sizes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from duodiff_pipeline.networks.probes import AttentionProbe, ConfidenceMap, UncertaintyProbe, init_probes
from duodiff_pipeline.networks.uvit import UViTConfig

CONFIG = UViTConfig(image_size=8, channels=2, patch=4, width=6, depth=3, heads=2, num_classes=3)  # 2 + 4 tokens


def probe(kind, seed=0):
    made = kind(CONFIG).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        nn.init.normal_(parameter, generator=generator)
    return made


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_linear_uncertainty_is_the_mean_sigmoid_over_all_tokens(tokens):
    made = probe(UncertaintyProbe)
    weight, bias = made.linear.weight[0].tolist(), made.linear.bias.item()
    expected = [
        sum(sigmoid(sum(w * h for w, h in zip(weight, token, strict=True)) + bias) for token in image) / 6
        for image in tokens.tolist()
    ]
    assert made(tokens).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_confidence_map_has_every_pixel_from_the_token_of_its_patch(tokens):
    made = probe(ConfidenceMap)
    found = made(tokens)
    assert found.shape == (3, 2, 8, 8)
    for n, c, row, column in [(0, 0, 0, 0), (1, 1, 3, 5), (2, 0, 7, 2), (0, 1, 4, 4)]:
        token = tokens[n, 2 + (row // 4) * 2 + column // 4]  # label and time stand first
        output = ((row % 4) * 4 + column % 4) * 2 + c
        expected = sigmoid(float(made.linear.weight[output] @ token + made.linear.bias[output]))
        assert float(found[n, c, row, column]) == pytest.approx(expected, rel=1e-12)


def test_attention_weighs_the_patches_and_leaves_label_and_time_out(tokens):
    made = probe(AttentionProbe)
    found = made(tokens)
    for n in range(3):
        patches = tokens[n, 2:]
        scores = torch.exp(patches @ made.query.weight[0] / math.sqrt(6))
        mean = (scores[:, None] * patches).sum(0) / scores.sum()
        hidden = made.hidden.weight @ mean + made.hidden.bias
        expected = sigmoid(float(made.output.weight[0] @ (hidden * hidden.sigmoid()) + made.output.bias))
        assert float(found[n]) == pytest.approx(expected, rel=1e-12)
    other = tokens.clone()
    other[:, :2] = 100.0
    assert torch.equal(made(other), found)


def test_the_published_attention_with_keys_and_values_is_the_same_function(tokens):
    """DuoDiff's: softmax(q K^T / sqrt(D)) V with learned q and matrices for K and V, then Linear-SiLU-Linear."""
    generator = torch.Generator().manual_seed(2)
    key, value, hidden = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64)
    query, key_bias, value_bias, hidden_bias = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    patches = tokens[:, 2:]
    k, v = patches @ key.T + key_bias, patches @ value.T + value_bias
    pooled = ((k @ query / math.sqrt(6)).softmax(dim=1)[:, :, None] * v).sum(dim=1)
    made = probe(AttentionProbe)
    with torch.no_grad():
        made.query.weight[0] = key.T @ query
        made.hidden.weight.copy_(hidden @ value)
        made.hidden.bias.copy_(hidden @ value_bias + hidden_bias)
    expected = made.output(nn.functional.silu(pooled @ hidden.T + hidden_bias)).sigmoid()[:, 0]
    torch.testing.assert_close(made(tokens), expected)


def test_cifar_probes_have_the_published_sizes():
    config = replace(CONFIG, image_size=32, channels=3, patch=2, width=512, depth=13, heads=8, num_classes=0)
    sizes = [
        13 * sum(p.numel() for p in kind(config).parameters())
        for kind in (UncertaintyProbe, ConfidenceMap, AttentionProbe)
    ]
    assert sizes == [6_669, 80_028, 13 * (788_993 - 2 * 512 * 513)]  # attention: without its keys and values


def test_attention_begins_evenly_spread_and_every_probe_near_a_half(tokens):
    for kind in (UncertaintyProbe, ConfidenceMap, AttentionProbe):
        probes = nn.ModuleList([kind(CONFIG).double()])
        init_probes(probes, torch.Generator().manual_seed(0))
        assert (probes[0](tokens) - 0.5).abs().max() < 0.1
    assert not probes[0].query.weight.any()
