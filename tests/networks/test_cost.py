import torch
import torch.nn.functional as F
from torch import nn

from duodiff_pipeline.networks.cost import count_macs


class SelfAttention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


def test_macs_of_matrix_products_convolutions_and_attention():
    n, s, d = 3, 7, 8
    assert count_macs(nn.Linear(8, 5), torch.empty(n, s, d, device="meta")) == n * s * 8 * 5
    assert count_macs(nn.Conv2d(2, 4, 3, padding=1), torch.empty(n, 2, 6, 6, device="meta")) == n * 4 * 36 * 2 * 9
    assert count_macs(nn.Conv2d(2, 4, 2, stride=2), torch.empty(n, 2, 6, 6, device="meta")) == n * 4 * 9 * 2 * 4
    heads = torch.empty(n, 2, s, d, device="meta")
    assert count_macs(SelfAttention(), heads) == n * 2 * (s * s * d + s * s * d)


def test_norms_softmax_and_activations_cost_nothing():
    free = nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Softmax(dim=-1), nn.Sigmoid())
    assert count_macs(free, torch.empty(3, 7, 8, device="meta")) == 0


def test_counting_leaves_the_module_where_and_what_it_was():
    module = nn.Linear(4, 4)
    before = module.weight.clone()
    count_macs(module, torch.empty(1, 4, device="meta"))
    assert torch.equal(module.weight, before)
