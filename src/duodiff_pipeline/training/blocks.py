"""What to do with the blocks that a network repeats: recompute them on the way back, and compile them."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..networks.dit import DiTBlock
from ..networks.unet import UNet
from ..networks.uvit import Block

TRANSFORMER_BLOCKS: tuple[type[nn.Module], ...] = (Block, DiTBlock)


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """Transformer blocks, and the residual blocks of U-Nets, in all that the module holds."""
    kinds = TRANSFORMER_BLOCKS
    if any(isinstance(part, UNet) for part in module.modules()):
        from diffusers.models.resnet import ResnetBlock2D

        kinds = (*kinds, ResnetBlock2D)
    return [part for part in module.modules() if isinstance(part, kinds)]


def recompute_blocks(module: nn.Module) -> None:
    """Keep of every block only what goes in, and compute it again for its gradients (Chen et al., arXiv 1604.06174).

    The gradients stay the same; a third of the time is added, and what a block holds meanwhile is needed once.
    """
    for block in blocks_of(module):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def compile_blocks(module: nn.Module) -> None:
    """Compile every block at its first call; blocks of one kind share what is compiled.

    Residual blocks have many shapes, each compiled for itself: left to PyTorch, all but the first 8 would run as they
    are. Transformer blocks have one, and batches that shrink.
    """
    blocks = blocks_of(module)
    for block in blocks:
        if isinstance(block, TRANSFORMER_BLOCKS):
            block.compile()
        else:
            block.compile(dynamic=False, recompile_limit=len(blocks))
