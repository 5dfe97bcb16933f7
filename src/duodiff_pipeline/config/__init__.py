"""The typed parameters: every key of conf/*/parameters.yml, its meaning, unit and bounds.

The whole tree is validated before any node runs; what is unknown or out of bounds is refused.
"""

from .analysis import ExitStatistics, LossGap, TimestepClustering
from .ase import Ase
from .autoencoder import LatentSource
from .data import DataPreparation, MetricReference
from .evaluation import Evaluation
from .hardware import HardwareSettings
from .hub import HubSource
from .multistage import Multistage, StageNetwork
from .parameters import Globals, Parameters
from .search import SwitchCurves, SwitchSearch
from .settings import Settings
from .shared import Noise, Sampling, SolverSettings
from .training import Backbone, EarlyExit, FromCheckpoint, Stage, Training
from .validation import validate, validate_globals

__all__ = [
    "Ase",
    "Backbone",
    "DataPreparation",
    "EarlyExit",
    "Evaluation",
    "ExitStatistics",
    "FromCheckpoint",
    "Globals",
    "HardwareSettings",
    "HubSource",
    "LatentSource",
    "LossGap",
    "MetricReference",
    "Multistage",
    "Noise",
    "Parameters",
    "Sampling",
    "Settings",
    "SolverSettings",
    "Stage",
    "StageNetwork",
    "SwitchCurves",
    "SwitchSearch",
    "TimestepClustering",
    "Training",
    "validate",
    "validate_globals",
]
