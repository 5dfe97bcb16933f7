"""The staged denoiser: a stage schedule and one denoiser a stage. DuoDiff is the one with two backbones."""

from collections.abc import Mapping

from torch import Tensor

from ..diffusion.denoiser import Denoiser, Prediction, classes_of
from ..diffusion.stages import StageSchedule
from ..errors import InputError


class StagedDenoiser:
    """Serves every evaluation by the denoiser of the stage its own timestep lies in.

    Raises InputError where the schedule names a denoiser that is not given, or stages take labels of different classes.
    """

    def __init__(self, schedule: StageSchedule, denoisers: Mapping[str, Denoiser]) -> None:
        missing = sorted(set(schedule.serves) - set(denoisers))
        if missing:
            raise InputError(f"the schedule names {missing}, but only {sorted(denoisers)} are given")
        self.schedule = schedule
        self.stages = tuple(denoisers[name] for name in schedule.serves)
        if len({classes_of(stage) for stage in self.stages}) > 1:
            by_name = {name: classes_of(stage) for name, stage in zip(schedule.serves, self.stages, strict=True)}
            raise InputError(f"the stages take labels of different numbers of classes: {by_name}")

    @property
    def classes(self) -> int:
        return classes_of(self.stages[0])

    def predict(self, x: Tensor, timestep: float, labels: Tensor | None = None) -> Prediction:
        """See `Denoiser.predict`."""
        stage = self.schedule.stage(timestep)
        served = self.stages[stage].predict(x, timestep, labels)
        return Prediction(served.eps, served.exit_depth, served.macs, stage)
