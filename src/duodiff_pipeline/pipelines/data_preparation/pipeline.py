from kedro.pipeline import Node, Pipeline

from .latents import encode_latents
from .nodes import prepare_images


def create_pipeline(latents: bool = False) -> Pipeline:
    """Source to image packs, and to their latents where networks learn from these."""
    packs = ["train_images", "held_out_images"]
    encode = Node(
        encode_latents,
        [*packs, "params:data_preparation", "params:hardware", "work_folder"],
        ["train_latents", "held_out_latents", "autoencoder"],
    )
    prepare = Node(prepare_images, ["params:data_preparation", "work_folder"], packs)
    return Pipeline([prepare, *([encode] if latents else [])])
