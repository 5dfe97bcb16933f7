"""The exponential average of a network of which some weights rest at every step."""

import copy

import torch
from torch import Tensor, nn


class OwnUpdatesAverage(nn.Module):
    """An average whose every weight advances in the steps that trained it, and by its own count of them alone.

    With one counter for all, a decoder that is trained in a share p of the steps would be averaged over p / (1 - decay)
    of its own updates only: the fewer, the rarer its stage. Counted by itself its horizon is 1 / (1 - decay) of them,
    as that of the encoder, and the warm-up is of its own first updates, too.

    decay: as `warmed_up_ema`; a first update is a copy.
    """

    updates: Tensor

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros(len(list(module.parameters())), dtype=torch.int64))

    @torch.no_grad()
    def update_parameters(self, raw: nn.Module) -> None:
        """Take in the weights of `raw` that have a gradient: those that the last step trained."""
        averaged, current = list(self.module.parameters()), list(raw.parameters())
        trained = [i for i, parameter in enumerate(current) if parameter.grad is not None]
        updates = self.updates.tolist()
        for count in sorted({updates[i] for i in trained}):
            own = [i for i in trained if updates[i] == count]
            weight = 1 - min(self.decay, (1 + count) / (10 + count)) if count else 1.0
            torch._foreach_lerp_([averaged[i] for i in own], [current[i] for i in own], weight)
        self.updates[trained] += 1
