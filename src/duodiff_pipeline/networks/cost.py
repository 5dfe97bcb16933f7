"""Cost in multiply-accumulates, counted by running a module on the meta device."""

import copy
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(module: nn.Module, *inputs: Any) -> int:
    """Multiply-accumulates of `module(*inputs)`: matrix products, convolutions and attention products.

    The inputs must be meta tensors; norms, softmax and activations are not counted.
    """
    shapes_only = copy.deepcopy(module).to("meta")
    with FlopCounterMode(display=False) as counter:
        shapes_only(*inputs)
    return counter.get_total_flops() // 2
