"""Sections of the data: images, and the reference they are measured against."""

from typing import Literal

from pydantic import Field, model_validator

from ..images.decoding import Crop, Decoding, Filter, Mode
from ..images.folder import Labels
from .settings import Settings


class DataPreparation(Settings):
    """Where the images come from."""

    source: Literal["digits", "idx", "cifar10", "image_folder"] = Field(
        description="digits: embedded in scikit-learn; idx: a folder of the MNIST family; cifar10: of CIFAR-10's "
        "binary version; image_folder: of image files"
    )
    folder: str | None = Field(
        description="folder with the four IDX files, gzipped or not, the six .bin files of CIFAR-10, or image files; "
        "null for digits"
    )
    held_out_share: float = Field(
        gt=0, lt=1, description="share of images held out; IDX and CIFAR-10 files bring a split"
    )
    image_size: int | None = Field(
        ge=4,
        le=1024,
        description="image_folder: side of the images made, pixels; idx, cifar10: a divisor of their side, or null",
    )
    crop: Crop | None = Field(
        description="image_folder: centre, as null, cuts out the largest square; none refuses what is not square"
    )
    resize_filter: Filter | None = Field(description="image_folder: Pillow's filter; null is lanczos")
    mode: Mode | None = Field(description="image_folder: colour, as null, makes 3 channels, grey 1")
    labels: Labels | None = Field(
        description="image_folder: subfolders, as null, makes each first-level one a class; none makes no classes"
    )

    seed: int = Field(ge=0, lt=2**32, description="digits, image_folder: key of the split")

    @model_validator(mode="after")
    def _keys_belong_to_source(self) -> "DataPreparation":
        if (self.source == "digits") != (self.folder is None):
            raise ValueError("folder is needed for the sources idx, cifar10 and image_folder, and only there")
        if self.source == "digits" and self.image_size is not None:
            raise ValueError("image_size belongs to images that are read from a folder, not to digits")
        own = ("crop", "resize_filter", "mode", "labels")
        foreign = [key for key in own if getattr(self, key) is not None]
        if self.source != "image_folder" and foreign:
            raise ValueError(f"{foreign[0]} belongs to the source image_folder, not to {self.source}")
        if self.source == "image_folder" and self.image_size is None:
            raise ValueError("image_size is needed for the source image_folder: the side of the images made, pixels")
        return self

    def decoding(self) -> Decoding:
        """How files of an image_folder become images."""
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
