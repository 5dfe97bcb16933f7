"""How a training is optimised."""

from dataclasses import dataclass
from typing import Literal

TimeWeighting = Literal["uniform", "equal_depths"]


@dataclass(frozen=True)
class Optimisation:
    """AdamW with linear warm-up, then a cosine to 0; gradients clipped by norm; weights averaged exponentially."""

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    adam_betas: tuple[float, float]
    clip_norm: float
    ema_decay: float
    min_snr_gamma: float | None = None
