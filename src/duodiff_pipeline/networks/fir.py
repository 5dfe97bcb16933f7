"""Resampling by two with the FIR filter of NCSN++ (Song et al., ICLR 2021, arXiv 2011.13456, appendix H).

diffusers has the same filter as a convolution of N x C images of one channel, whose gradient took a third of a training
step of a small U-Net on a CPU; as a convolution of C groups it takes hardly any of it (`make unet-speed`).

Shapes: x (N, C, H, W), of any N and C, and even sides where they are halved.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = (1.0, 3.0, 3.0, 1.0)


class _Fir(nn.Module):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor(TAPS) / sum(TAPS)
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def kernel_of(self, x_nchw: Tensor) -> Tensor:
        """The filter for each channel, (C, 1, 4, 4)."""
        return self.kernel.to(x_nchw.dtype).expand(x_nchw.shape[1], -1, -1, -1)


class FirUp(_Fir):
    """Twice the sides."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        kernel = 4 * self.kernel_of(x_nchw)  # of 4 pixels in the finer grid, 3 are zeros
        return F.conv_transpose2d(x_nchw, kernel, stride=2, padding=1, groups=x_nchw.shape[1])


class FirDown(_Fir):
    """Half the sides."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        return F.conv2d(x_nchw, self.kernel_of(x_nchw), stride=2, padding=1, groups=x_nchw.shape[1])


class FirDownConvolution(_Fir):
    """Filtered, and then half the sides by a learnt convolution to other channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, 3, stride=2)

    def forward(self, x_nchw: Tensor) -> Tensor:
        filtered = F.conv2d(x_nchw, self.kernel_of(x_nchw), padding=2, groups=x_nchw.shape[1])
        return self.convolution(filtered)
