"""How a training is optimised."""

from dataclasses import dataclass
from typing import Literal

RateSchedule = Literal["cosine", "constant"]
TimeWeighting = Literal["uniform", "equal_depths"]


@dataclass(frozen=True)
class Optimisation:
    """AdamW with linear warm-up, then a cosine to 0 or a constant rate; weights averaged exponentially.

    clip_norm: largest norm of gradients, None for any.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    adam_betas: tuple[float, float]
    clip_norm: float | None
    ema_decay: float
    min_snr_gamma: float | None = None
    rate_schedule: RateSchedule = "cosine"
