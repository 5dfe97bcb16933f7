"""What pages show beside the findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from ..config import Parameters
from ..images.pack import ImagePack


@dataclass(frozen=True)
class ReportData:
    """All of it but what the figures make of it.

    extractor: name, sha256, what it learns and held_out_accuracy; timings: seconds by plan and batch; training_curves:
    by network; sample_grids: (N, C, H, W) uint8 by plan; environment: of the configuration; runtime_params: those of
    the command line, flat; git: commit and dirty; versions: by package; where there are any, exit_errors: of ASE,
    multistage_findings, multistage_page: of the pipeline multistage, autoencoder: the record of whose latents networks
    learn from.
    """

    parameters: Parameters
    extractor: Mapping[str, Any]
    exit_table: pd.DataFrame
    change_points: Sequence[Mapping[str, Any]]
    candidate_edges: Sequence[dict[str, Any]]
    similarity_curves: pd.DataFrame
    trials: pd.DataFrame
    sample_grids: Mapping[str, Tensor]
    timings: Mapping[str, Any]
    training_curves: Mapping[str, Mapping[str, Any]]
    train: ImagePack
    held_out: ImagePack
    environment: str
    runtime_params: Mapping[str, Any]
    git: Mapping[str, Any]
    versions: Mapping[str, str]
    exit_errors: pd.DataFrame | None = None
    multistage_findings: Mapping[str, Any] | None = None
    multistage_page: tuple[str, Mapping[str, str]] | None = None
    autoencoder: Mapping[str, Any] | None = None
