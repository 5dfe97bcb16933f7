"""Whether what a run reads belongs together: files say what they were made from, and may be left from before."""

from collections.abc import Mapping
from typing import Any

from .analysis.denoiser_similarity import DenoiserDifferences
from .config import Parameters
from .errors import InputError
from .images.latents import LatentPack
from .images.pack import ImagePack
from .metrics.classifier import FeatureClassifier
from .metrics.reference import ReferenceStatistics
from .metrics.torchscript import TorchScriptExtractor
from .networks.files import NetworkHeader, StoredNetwork, exit_kind

ARCHITECTURE = ("patch", "width", "depth", "heads")
UNET = ("encoder_width", "multipliers", "blocks", "attention_sides")
UNET_STAGES = ("decoder_widths", "shared_encoder")
EXITS = "early_exits"
ASE = "ase"
SCHEDULED = ("schedule", "depths", "threshold", "dropped_first")


class Lineage:
    """What the datasets of one run have said so far; parameters: of that run."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._said: dict[str, tuple[str, str]] = {}

    def see(self, name: str, data: Any) -> None:
        """Raises InputError where the dataset of this name does not fit the parameters or what was seen before it."""
        if isinstance(data, StoredNetwork):
            self._require_architecture(name, data)
        for what, value in {**self._made_from(name, data), **self._taught_by(name, data)}.items():
            before, other = self._said.setdefault(what, (value, name))
            if value != before:
                raise InputError(
                    f"{' and '.join(sorted((name, other)))} do not belong together, for their {what} differ: "
                    "run the pipelines that make them again"
                )

    def _made_from(self, name: str, data: Any) -> dict[str, str]:
        """sha256 of what it was made from, and shapes, by what they are of."""
        examples = "latents" if self._parameters.data_preparation.autoencoder else "images"
        split = "training" if name.startswith("train_") else "held-out"
        match data:
            case ImagePack():
                return {f"{split} images": data.sha256, "image shapes": str(data.shape_chw)}
            case LatentPack():
                shapes = {"image shapes": str(data.image_chw), "latent shapes": str(data.shape_chw)}
                return {f"{split} latents": data.sha256, f"{split} images": data.images_sha256, **shapes}
            case DenoiserDifferences():
                return {f"training {examples}": data.data_sha256}
            case FeatureClassifier() | TorchScriptExtractor():
                return {"feature extractors": data.sha256}
            case ReferenceStatistics():
                of = {"held_out": "held-out images", "train": "training images"}.get(data.split, "published statistics")
                return {of: data.data_sha256, "feature extractors": data.extractor_sha256}
            case StoredNetwork(header=header):
                channels, size = header.architecture["channels"], header.architecture["image_size"]
                known = {f"training {examples}": header.data_sha256} if header.data_sha256 else {}
                return {**known, f"{examples.removesuffix('s')} shapes": str((channels, size, size))}
        return {}

    def _taught_by(self, name: str, data: Any) -> dict[str, str]:
        """The network itself and what it was fine-tuned from, by name; where the pipeline trained it, its teacher."""
        if not isinstance(data, StoredNetwork):
            return {}
        of = name.removesuffix(".network")
        backbone = self._parameters.backbones.get(of)
        stage = backbone.stage if backbone and not backbone.taken_from else None
        taught = {f"weights of {stage.teacher}": str(data.header.teacher_sha256)} if stage and stage.teacher else {}
        if of == ASE:
            taught = {f"weights of {self._backbone(of)}": str(data.header.backbone_sha256)}
        return {f"weights of {of}": data.sha256, **taught}

    def _require_architecture(self, name: str, network: StoredNetwork) -> None:
        of, header = name.removesuffix(".network"), network.header
        if header.kind != (expected := self._kind(of)):
            raise InputError(f"{name} holds a network of kind {header.kind}, not {expected}: train it again")
        if not self._unet_of(of):
            self._require_range(name, of, header)
        if of == ASE and header.exit_schedule is None:
            raise InputError(f"{name} was trained for no exit schedule: train it again")
        for parameter, (found, now) in self._found_and_set(of, header).items():
            if found != now:
                raise InputError(
                    f"{name} was trained with {parameter} {found}, but it is {now} now: {self._way_out(of)}"
                )

    def _kind(self, of: str) -> str:
        """The one that is set, as in `NetworkHeader`."""
        exits = self._parameters.early_exit
        if of == EXITS:
            return exit_kind(exits.variant, exits.probe, self._parameters.backbones[exits.backbone].kind)
        return "unet" if self._unet_of(of) else self._parameters.backbones[self._backbone(of)].kind

    def _require_range(self, name: str, of: str, header: NetworkHeader) -> None:
        stage = self._parameters.backbones[self._backbone(of)].stage
        if stage is not None and stage.edge is None:
            return  # the loss gap said which
        lowest = stage.lowest([]) if stage else 0
        if header.timestep_range[0] != lowest:
            raise InputError(
                f"{name} learnt the timesteps from {header.timestep_range[0]:g} on, but its stage says from {lowest} "
                f"on now: {self._way_out(of)}"
            )

    def _way_out(self, of: str) -> str:
        """Of a network that does not fit the parameters."""
        backbone = self._parameters.backbones.get(of)
        taken = backbone.taken_from if backbone else None
        return f"say so in the parameters, or take another file than {taken}" if taken else "train it again"

    def _backbone(self, of: str) -> str:
        """The one that a network is, or was made for."""
        ase = self._parameters.ase
        return {EXITS: self._parameters.early_exit.backbone, ASE: ase.backbone if ase else of}.get(of, of)

    def _unet_of(self, of: str) -> str | None:
        """The network of the multistage comparison that a dataset is a training, or a checkpoint, of."""
        settings = self._parameters.multistage
        name, _, seed = of.partition(".")[0].rpartition("_")
        return name if settings is not None and name in settings.networks and seed.isdigit() else None

    def _found_and_set(self, of: str, header: NetworkHeader) -> dict[str, tuple[Any, Any]]:
        """By parameter, what a network has and what is set."""
        p = self._parameters
        found: dict[str, Any] = dict(header.architecture)
        found |= {key: tuple(value) for key, value in found.items() if isinstance(value, list)}  # of a file's JSON
        own = self._own_found_and_set(of, found, header.training)
        backbone = p.backbones.get(self._backbone(of))
        if not (backbone and backbone.file):
            own["training.predicts"] = (found["predicts"], p.training.predicts)
        return {
            **own,
            "training.label_dropout": (
                _label_dropout(bool(found.get("num_classes")), found.get("null_class", False)),
                _label_dropout(p.training.label_dropout is not None, bool(p.training.label_dropout)),
            ),
            "noise.kind": (found["noise"]["kind"], p.noise.kind),
            "noise.timesteps": (found["noise"]["timesteps"], p.noise.timesteps),
        }

    def _own_found_and_set(
        self, of: str, found: Mapping[str, Any], training: Mapping[str, Any]
    ) -> dict[str, tuple[Any, Any]]:
        """Of the section that a network has to itself; found: its architecture."""
        p = self._parameters
        if p.multistage is not None and (unet := self._unet_of(of)):
            shared, own = p.multistage, p.multistage.networks[unet]
            return {
                **{f"multistage.{key}": (found[key], getattr(shared, key)) for key in UNET},
                **{f"multistage.networks.{unet}.{key}": (found[key], getattr(own, key)) for key in UNET_STAGES},
                "multistage.timesteps": (training["timesteps"], shared.timesteps),
            }
        backbone = self._backbone(of)
        now = p.backbones[backbone]
        same = {f"backbones.{backbone}.{key}": (found[key], getattr(now, key)) for key in ARCHITECTURE}
        if of == ASE and p.ase is not None:
            settings = p.ase.model_dump(mode="json")
            same |= {f"ase.{key}": (training["ase"][key], settings[key]) for key in SCHEDULED}
        return same


def _label_dropout(conditional: bool, null_class: bool) -> str:
    return ("above 0" if null_class else "0") if conditional else "null"
