"""The section of a Hugging Face dataset, within that of the images."""

from pydantic import Field

from ..images.hub import HubImages
from .settings import Settings


class HubSource(Settings):
    """Which dataset, which splits and which columns of it."""

    dataset: str = Field(
        min_length=1, description="name on the hub, or path of a parquet file or of a folder of a dataset's files"
    )
    configuration: str | None = Field(default=None, description="of the dataset; null: its default")
    revision: str | None = Field(default=None, description="commit, tag or branch on the hub; null: the newest")
    train: str = Field(
        default="train", min_length=1, description="split of the training images; a+b: both, all: all of them"
    )
    held_out: str | None = Field(
        default=None, description="split of the held-out images; null: held_out_share of the training images' is"
    )
    image: str = Field(default="image", description="column of the images")
    label: str | None = Field(default="label", description="column of labels, 0..C-1; null: one class")

    def images(self) -> HubImages:
        """The images it names."""
        return HubImages(self.dataset, self.configuration, self.revision, self.image, self.label)
