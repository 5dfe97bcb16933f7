"""What pages show beside the findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from torch import Tensor

from ..config import Parameters
from ..diffusion.noise import NoiseSchedule
from ..errors import InputError
from ..images.pack import ImagePack
from ..metrics.records import MetricRecord
from ..networks.files import StoredNetwork
from .curves import SwitchCurve, measured_with, switch_curves
from .switches import SwitchRange, suggested_switches


@dataclass(frozen=True)
class ReportData:
    """All of it but what the figures make of it.

    experiment: its name; extractor: name, sha256, what it learns and held_out_accuracy; loss_gap, loss_gap_switches: of
    the pipeline loss_gap; curve_table: of switch_curves; timings: seconds by plan, batch and training; networks: by
    name, those of early exits included; training_curves: by network; sample_grids: (N, C, H, W) uint8 by plan;
    environment: of the configuration; runtime_params: those of the command line, flat; git: commit and dirty; versions:
    by package; where there are any, exit_errors: of ASE, multistage_findings, multistage_page: of the pipeline
    multistage, autoencoder: the record of whose latents networks learn from.
    """

    experiment: str
    parameters: Parameters
    extractor: Mapping[str, Any]
    exit_table: pd.DataFrame
    change_points: Sequence[Mapping[str, Any]]
    candidate_edges: Sequence[dict[str, Any]]
    similarity_curves: pd.DataFrame
    loss_gap: pd.DataFrame
    loss_gap_switches: Sequence[Mapping[str, Any]]
    curve_table: pd.DataFrame
    trials: pd.DataFrame
    networks: Mapping[str, StoredNetwork]
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

    @property
    def noise(self) -> NoiseSchedule:
        return self.parameters.noise.schedule()

    @property
    def suggested(self) -> tuple[SwitchRange, ...]:
        """By the exit statistics, one a threshold."""
        return suggested_switches(self.change_points, self.exit_table, self.noise)

    @cached_property
    def curves(self) -> list[SwitchCurve]:
        return switch_curves(self.curve_table, self.noise)

    @property
    def training_seconds(self) -> Mapping[str, float | None]:
        """By network, None where it came from a file."""
        seconds: Mapping[str, float | None] = self.timings["training_seconds"]
        return seconds

    def require_curves_of(self, record: MetricRecord) -> None:
        """record: of the baseline. Raises InputError where the curves were measured with other networks than those
        here, or in other seed blocks, with another guidance, reference or number of images than the record.
        """
        parameters = self.parameters
        ends = {"shallow": parameters.everywhere[0], "deep": parameters.everywhere[-1]}
        middle = {"middle": parameters.evaluation.middle} if parameters.evaluation.middle else {}
        names = {**ends, **middle, **{name: name for name in parameters.first_stage}}
        networks = {role: self.networks[name].sha256 for role, name in names.items()}
        scale = parameters.sampling.guidance_by(names.values())
        guidance = {role: scale[name] for role, name in names.items()}
        now = measured_with(networks, record.reference_sha256, record.n_generated, guidance)
        if set(self.curve_table["measured_with"]) != {now}:
            raise InputError(
                "switch_curves was measured with other networks or guidance, another reference or another number of "
                "images than the records: run the pipeline switch_curves again"
            )
        if (seeds := set(self.curve_table["seed"])) != set(record.seeds):
            raise InputError(
                f"switch_curves was measured in the seed blocks {sorted(seeds)}, the records in "
                f"{sorted(record.seeds)}: run the pipeline switch_curves again"
            )
