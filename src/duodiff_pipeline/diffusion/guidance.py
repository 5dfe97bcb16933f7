"""Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598).

    eps = eps_null + s (eps_label - eps_null)

s is the guidance scale: 0 is the unconditional prediction, 1 the conditional one, more leads away from what images of
no class in particular look like. The paper's eq. 6 writes (1 + w) eps_label - w eps_null, so s = 1 + w. U-ViT's
published code has the paper's form, cond + w (cond - null): its 0.4 is s = 1.4 here.

A scale a stage: guide the denoiser of every stage by a scale of its own.
"""

import torch
from torch import Tensor

from ..errors import InputError
from .denoiser import Denoiser, Prediction, classes_of


def evaluations_at(scale: float) -> int:
    """How often a network is evaluated for one guided prediction: once for 0 and 1, where the other drops out."""
    return 1 if scale in (0, 1) else 2


class GuidedDenoiser:
    """A class-conditional denoiser, guided by `scale`; keeps the `Denoiser` contract.

    null_label: the label that stands for none. Where both predictions are needed, they are made in one batch of 2N
    images; what that takes of memory is set by the micro-batch of the sampler. Costs of both are added up; exit_depth
    is that of the one that went deeper.

    Raises InputError where the denoiser takes no labels, or the scale is negative.
    """

    def __init__(self, denoiser: Denoiser, null_label: int, scale: float) -> None:
        if not classes_of(denoiser):
            raise InputError(f"guidance by {scale:g} needs a class-conditional network")
        if scale < 0:
            raise InputError(f"the guidance scale {scale:g} is negative")
        self.denoiser = denoiser
        self.null_label = null_label
        self.scale = scale

    @property
    def classes(self) -> int:
        return classes_of(self.denoiser)

    def predict(self, x: Tensor, timestep: float, labels: Tensor | None = None) -> Prediction:
        """See `Denoiser.predict`."""
        if labels is None:
            raise InputError("a guided network needs labels")
        null = torch.full_like(labels, self.null_label)
        if evaluations_at(self.scale) == 1:
            return self.denoiser.predict(x, timestep, labels if self.scale else null)
        both = self.denoiser.predict(torch.cat([x, x]), timestep, torch.cat([labels, null]))
        eps_label, eps_null = both.eps.chunk(2)
        return Prediction(
            eps=eps_null + self.scale * (eps_label - eps_null),
            exit_depth=torch.maximum(*both.exit_depth.chunk(2)),
            macs=torch.add(*both.macs.chunk(2)),
            stage=both.stage,
        )
