"""The section of the comparison of multistage networks."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..diffusion.noise import NoiseSchedule
from ..diffusion.solvers import Solver, SolverName
from ..networks.preconditioning import Predicts
from ..networks.unet import UNetConfig
from ..training.batches import StageWeights
from .settings import Distinct, Settings

EdgesBy = Literal["optimal_denoiser", "uniform", "snr", "searched"]


class StageNetwork(Settings):
    """One U-Net of the comparison."""

    decoder_widths: tuple[Annotated[int, Field(ge=4, multiple_of=4)], ...] = Field(
        min_length=1, description="channels of each stage's decoder, noise to data; one alone: the unified network"
    )
    shared_encoder: bool = Field(default=True, description="one for all decoders; false: separate networks")
    edges: EdgesBy | tuple[float, ...] | None = Field(
        default=None,
        description="between the stages: optimal_denoiser as the paper has it, uniform timesteps, snr (its rival), "
        "searched, as `search` says, or timesteps from noise to data; null where there is one decoder",
    )

    @model_validator(mode="after")
    def _edges_between_stages(self) -> "StageNetwork":
        stages = len(self.decoder_widths)
        if (stages == 1) != (self.edges is None):
            raise ValueError("edges are needed where there are several decoders, and only there")
        if stages == 1 and not self.shared_encoder:
            raise ValueError("shared_encoder: one decoder has nothing to share its encoder with")
        if isinstance(self.edges, tuple):
            if len(self.edges) != stages - 1:
                raise ValueError(f"{stages} decoders need {stages - 1} edges, not {len(self.edges)}")
            if list(self.edges) != sorted(set(self.edges), reverse=True):
                raise ValueError(f"edges {list(self.edges)} must descend: stages are ordered from noise to data")
        elif self.edges == "optimal_denoiser" and stages != 3:
            raise ValueError(f"edges by optimal_denoiser are those of 3 stages, not of {stages}")
        return self


class EdgeSearch(Settings):
    """Successive halving over the edges of one network, trained with all of them for a while."""

    trainings: int = Field(ge=2, description="most candidates trained; of more, so many that are evenly spread")
    seed: int = Field(ge=0, description="key of the noise that the candidates share when FID is measured")


class Multistage(Settings):
    """U-Nets with a decoder a stage against others at equal cost of training (arXiv 2312.09181)."""

    encoder_width: int = Field(ge=4, multiple_of=4, description="channels of the encoder")
    multipliers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="of the widths, one a level; each level halves the image"
    )
    blocks: int = Field(ge=1, description="residual blocks a level of the encoder; decoders have one more")
    attention_sides: tuple[int, ...] = Field(description="sides of the levels with attention, pixels")
    networks: dict[Annotated[str, Field(pattern="^[a-z][a-z_]*$")], StageNetwork] = Field(
        min_length=2, description="by name; the first is the one that the others are held against"
    )
    search: EdgeSearch | None = Field(
        default=None,
        description="how the edges of the network that has them searched are found: of those that clusterings propose, "
        "by timestep_clustering's etas and alphas, the better half goes on after every checkpoint",
    )
    eta: float = Field(gt=0, description="of edges by optimal_denoiser: see timestep_clustering.etas")
    alpha: float = Field(gt=0, lt=1, description="of edges by optimal_denoiser: see timestep_clustering.alphas")
    steps: int = Field(ge=1, description="training steps of the first network; the others get what costs as much")
    checkpoints: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Distinct] = Field(
        description="shares of the training at which FID is measured, too, rising"
    )
    timesteps: StageWeights = Field(
        description="how often each stage is trained: uniform, as often as it has timesteps; stages, all alike"
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Distinct] = Field(
        min_length=1, description="of trainings: weights, batches and noise"
    )
    solver: SolverName = Field(description="of the samples")
    sampling_steps: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Distinct] = Field(
        min_length=1, description="of the solver, rising; checkpoints are sampled with the last number alone"
    )

    @model_validator(mode="after")
    def _can_be_measured(self) -> "Multistage":
        for key in ("checkpoints", "sampling_steps"):
            if list(getattr(self, key)) != sorted(getattr(self, key)):
                raise ValueError(f"{key} must rise, not {list(getattr(self, key))}")
        for steps in self.sampling_steps:
            Solver(self.solver, steps)
        searched = [name for name, network in self.networks.items() if network.edges == "searched"]
        if len(searched) != (self.search is not None):
            raise ValueError(f"search belongs to one network with edges: searched, and there are {len(searched)}")
        if searched and not self.checkpoints:
            raise ValueError("search compares trainings at checkpoints, of which there are none")
        percents = [percent(share) for share in self.checkpoints]
        if len(set(percents)) < len(percents) or not all(0 < p < 100 for p in percents):
            raise ValueError("checkpoints must differ by a percent, and lie between 1 and 99 percent")
        return self

    @property
    def searched(self) -> str | None:
        """The network whose edges are searched."""
        return next((name for name, network in self.networks.items() if network.edges == "searched"), None)

    def architecture(
        self, name: str, image_size: int, channels: int, predicts: Predicts, noise: NoiseSchedule, **more: Any
    ) -> UNetConfig:
        """Of a network; more: what it is conditioned on; raises InputError where the numbers do not fit together."""
        network = self.networks[name]
        return UNetConfig(
            image_size,
            channels,
            self.encoder_width,
            network.decoder_widths,
            self.multipliers,
            self.blocks,
            self.attention_sides,
            network.shared_encoder,
            predicts=predicts,
            noise=noise,
            **more,
        )


def percent(share: float) -> int:
    """A share as checkpoints are named."""
    return round(100 * share)
