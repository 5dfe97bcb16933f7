"""Sections of the data: images, and the reference they are measured against."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ..images.crops import OWN_FILTERS, Crop, Filter
from ..images.decoding import Decoding, Mode
from ..images.folder import Labels
from .autoencoder import LatentSource
from .hub import HubSource
from .settings import Settings


class DataPreparation(Settings):
    """Where the images come from."""

    source: Literal["digits", "idx", "cifar10", "image_folder", "hub"] = Field(
        description="digits: embedded in scikit-learn; idx: a folder of the MNIST family; cifar10: of CIFAR-10's "
        "binary version; image_folder: of image files; hub: a Hugging Face dataset, there or here"
    )
    folder: str | None = Field(
        description="folder with the four IDX files, gzipped or not, the six .bin files of CIFAR-10, or image files; "
        "null for digits and hub"
    )
    hub: HubSource | None = Field(default=None, description="hub: which dataset; other sources do not look at it")
    autoencoder: LatentSource | None = Field(
        default=None, description="whose latents networks learn from; null: they learn from the images themselves"
    )
    held_out_share: float = Field(
        gt=0, lt=1, description="share of images held out; IDX and CIFAR-10 files bring a split, and so may hub"
    )
    image_size: int | None = Field(
        ge=4,
        le=1024,
        description="image_folder, hub: side of the images made, pixels; idx, cifar10: a divisor of theirs, or null",
    )
    crop: Crop | None = Field(
        description="image_folder, hub: centre, as null, cuts out the largest square; none refuses what is not square; "
        "adm, celeba_uvit and celeba_duodiff are those papers', see images.crops"
    )
    resize_filter: Filter | None = Field(
        description="image_folder, hub: Pillow's filter; null is lanczos, and a paper's crop has its own"
    )
    mode: Mode | None = Field(description="image_folder, hub: colour, as null, makes 3 channels, grey 1")
    labels: Labels | None = Field(
        description="image_folder: subfolders, as null, makes each first-level one a class; none makes no classes"
    )

    seed: int = Field(ge=0, lt=2**32, description="digits, image_folder, hub: key of the split")

    @model_validator(mode="after")
    def _keys_belong_to_source(self) -> "DataPreparation":
        if (self.source in ("digits", "hub")) != (self.folder is None):
            raise ValueError("folder is needed for the sources idx, cifar10 and image_folder, and only there")
        if self.source == "hub" and self.hub is None:
            raise ValueError("hub, which says which dataset, is needed for the source hub")
        if self.source == "digits" and self.image_size is not None:
            raise ValueError("image_size belongs to images that are read from a folder or a dataset, not to digits")
        decoded = {"crop", "resize_filter", "mode"}
        own = {"image_folder": {*decoded, "labels"}, "hub": decoded}.get(self.source, set())
        foreign = [key for key in ("crop", "resize_filter", "mode", "labels") if getattr(self, key) is not None]
        for key in foreign:
            if key not in own:
                others = "source image_folder" if key == "labels" else "sources image_folder and hub"
                raise ValueError(f"{key} belongs to the {others}, not to {self.source}")
        if own and self.image_size is None:
            raise ValueError(f"image_size is needed for the source {self.source}: the side of the images made, pixels")
        if self.crop in OWN_FILTERS and self.resize_filter is not None:
            raise ValueError(f"resize_filter is for centre and none; crop {self.crop} has a filter of its own")
        return self

    @property
    def files(self) -> list[str]:
        """What is read of the user's here: a folder of images, a dataset, an autoencoder."""
        of_hub = [of for of in (self.hub and self.hub.dataset, self.autoencoder and self.autoencoder.path) if of]
        here = [path for path in of_hub if Path(path).expanduser().exists()]
        return [*([self.folder] if self.folder is not None else []), *here]

    def decoding(self) -> Decoding:
        """How encoded images of an image_folder, or of a dataset, become images."""
        assert self.image_size is not None
        return Decoding(self.image_size, self.crop or "centre", self.resize_filter or "lanczos", self.mode or "colour")


class TorchScriptFile(Settings):
    """A TorchScript network that turns images into features, as file or at a URL."""

    path: str | None = Field(default=None, description="of the file; null where url is given")
    url: str | None = Field(
        default=None, pattern="^(https?|file)://", description="downloaded once, to data/01_raw/extractors"
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the file; another one is refused")

    @model_validator(mode="after")
    def _one_place(self) -> "TorchScriptFile":
        if (self.path is None) == (self.url is None):
            raise ValueError("either path or url says where the file is")
        return self


class MetricReference(Settings):
    """The feature extractor, by default a classifier trained on the training split; the reference, and the floor."""

    extractor: TorchScriptFile | None = Field(
        description="null trains a classifier; else a TorchScript file such as the literature's Inception network"
    )
    reference: str = Field(
        description="what generated images are held against: held_out, train or an .npz file of mu and sigma"
    )
    features: int = Field(ge=2, le=4096, description="D, width of the classifier's penultimate layer")
    width: int = Field(ge=1, le=1024, description="channels of its first convolution")
    steps: int = Field(ge=1, description="of its training")
    batch_images: int = Field(ge=1, description="images a training step")
    learning_rate: float = Field(gt=0, description="Adam's first learning rate; a cosine takes it to 0")
    seed: int = Field(ge=0, lt=2**32, description="key of its training, and of the floor's subsets")
    floor_repeats: int = Field(ge=2, description="random subsets of real images whose metrics make the floor")

    @model_validator(mode="after")
    def _reference_exists(self) -> "MetricReference":
        if self.reference not in ("held_out", "train") and not self.reference.endswith(".npz"):
            raise ValueError(f"reference is held_out, train or the path of an .npz file, not {self.reference!r}")
        return self

    @property
    def files(self) -> list[str]:
        """What is read of the user's: a TorchScript file, published statistics."""
        extractor = self.extractor.path if self.extractor is not None else None
        published = self.reference if self.reference.endswith(".npz") else None
        return [path for path in (extractor, published) if path is not None]
