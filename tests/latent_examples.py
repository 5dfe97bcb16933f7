"""A tiny autoencoder with random weights, for tests of latents."""

import torch
from diffusers import AutoencoderKL


def tiny_autoencoder(**changes) -> AutoencoderKL:
    """Images of a multiple of 4 pixels a side to 4 channels, 4 pixels a side behind each."""
    torch.manual_seed(0)
    fixed = {
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [4, 4, 8],
        "norm_num_groups": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
    }
    return AutoencoderKL(**{**fixed, **changes}).eval().requires_grad_(False)
