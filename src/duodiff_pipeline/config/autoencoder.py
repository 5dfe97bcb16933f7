"""The section of the autoencoder whose latents networks learn from, within that of the images."""

from pydantic import Field

from .settings import Settings


class LatentSource(Settings):
    """Which autoencoder, and what is kept of the images it encodes."""

    path: str = Field(
        min_length=1, description="folder of an AutoencoderKL in diffusers' layout, or name on the Hugging Face hub"
    )
    subfolder: str | None = Field(default=None, description="below it, such as vae; null: none")
    revision: str | None = Field(default=None, description="commit, tag or branch on the hub; null: the newest")
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="what that of its configuration and weights must be"
    )
    mirrored: bool = Field(
        default=True,
        description="keep the latents of mirrored images, too, which training.flip needs: twice the disk and time",
    )
    batch_images: int = Field(default=16, ge=1, description="images encoded or decoded at once")
