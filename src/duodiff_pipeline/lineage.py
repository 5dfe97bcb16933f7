"""Whether what a run reads belongs together: files say what they were made from, and may be left from before."""

from typing import Any

from .config import Parameters
from .errors import InputError
from .images.pack import ImagePack
from .metrics.classifier import FeatureClassifier
from .metrics.reference import ReferenceStatistics
from .metrics.torchscript import TorchScriptExtractor
from .networks.files import EXIT_KINDS, NetworkHeader, StoredNetwork

ARCHITECTURE = ("patch", "width", "depth", "heads")
EXITS = "early_exits"


class Lineage:
    """What the datasets of one run have said so far; parameters: of that run."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._said: dict[str, tuple[str, str]] = {}

    def see(self, name: str, data: Any) -> None:
        """Raises InputError where the dataset of this name does not fit the parameters or what was seen before it."""
        if isinstance(data, StoredNetwork):
            self._require_architecture(name, data)
        for what, value in {**_made_from(name, data), **self._taught_by(name, data)}.items():
            before, other = self._said.setdefault(what, (value, name))
            if value != before:
                raise InputError(
                    f"{' and '.join(sorted((name, other)))} do not belong together, for their {what} differ: "
                    "run the pipelines that make them again"
                )

    def _taught_by(self, name: str, data: Any) -> dict[str, str]:
        """The network itself, by name, and its teacher where the pipeline trained it."""
        if not isinstance(data, StoredNetwork):
            return {}
        of = name.removesuffix(".network")
        backbone = self._parameters.backbones.get(of)
        stage = backbone.stage if backbone and not backbone.taken_from else None
        taught = {f"weights of {stage.teacher}": str(data.header.teacher_sha256)} if stage and stage.teacher else {}
        return {f"weights of {of}": data.sha256, **taught}

    def _require_architecture(self, name: str, network: StoredNetwork) -> None:
        of, header = name.removesuffix(".network"), network.header
        exits = self._parameters.early_exit
        expected = EXIT_KINDS[exits.variant, exits.probe] if of == EXITS else "uvit"
        if header.kind != expected:
            raise InputError(f"{name} holds a network of kind {header.kind}, not {expected}: train it again")
        self._require_range(name, of, header)
        for parameter, (found, now) in self._found_and_set(of, header).items():
            if found != now:
                raise InputError(f"{name} was trained with {parameter} {found}, but it is {now} now: train it again")

    def _require_range(self, name: str, of: str, header: NetworkHeader) -> None:
        stage = self._parameters.backbones[self._backbone(of)].stage
        if stage is not None and stage.edge is None:
            return  # the loss gap said which
        lowest = stage.lowest([]) if stage else 0
        if header.timestep_range[0] != lowest:
            raise InputError(
                f"{name} learnt the timesteps from {header.timestep_range[0]:g} on, but its stage says from {lowest} "
                "on now: train it again"
            )

    def _backbone(self, of: str) -> str:
        return self._parameters.early_exit.backbone if of == EXITS else of

    def _found_and_set(self, of: str, header: NetworkHeader) -> dict[str, tuple[Any, Any]]:
        """By parameter, what a network has and what is set."""
        p, architecture, backbone = self._parameters, header.architecture, self._backbone(of)
        return {
            **{
                f"backbones.{backbone}.{key}": (architecture[key], getattr(p.backbones[backbone], key))
                for key in ARCHITECTURE
            },
            **(
                {}
                if p.backbones[backbone].taken_from
                else {"training.predicts": (architecture["predicts"], p.training.predicts)}
            ),
            "training.label_dropout": (
                _label_dropout(bool(architecture.get("num_classes")), architecture.get("null_class", False)),
                _label_dropout(p.training.label_dropout is not None, bool(p.training.label_dropout)),
            ),
            "noise.kind": (architecture["noise"]["kind"], p.noise.kind),
            "noise.timesteps": (architecture["noise"]["timesteps"], p.noise.timesteps),
        }


def _label_dropout(conditional: bool, null_class: bool) -> str:
    return ("above 0" if null_class else "0") if conditional else "null"


def _made_from(name: str, data: Any) -> dict[str, str]:
    match data:
        case ImagePack():
            images = "training images" if name == "train_images" else "held-out images"
            return {images: data.sha256, "image shapes": str(data.shape_chw)}
        case FeatureClassifier() | TorchScriptExtractor():
            return {"feature extractors": data.sha256}
        case ReferenceStatistics():
            of = {"held_out": "held-out images", "train": "training images"}.get(data.split, "published statistics")
            return {of: data.data_sha256, "feature extractors": data.extractor_sha256}
        case StoredNetwork(header=header):
            channels, size = header.architecture["channels"], header.architecture["image_size"]
            known = {"training images": header.data_sha256} if header.data_sha256 else {}
            return {**known, "image shapes": str((channels, size, size))}
    return {}
