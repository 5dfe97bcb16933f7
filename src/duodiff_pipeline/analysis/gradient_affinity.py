"""How alike the gradients of a network's loss are at two timesteps (Zhang et al., CVPR 2024, arXiv 2312.09181).

    G(a, b)   cosine between the gradients by all parameters of the mean |eps(x_n, n) - eps|^2 at n = a and n = b

The rival clustering of the paper's ablation, after Go et al. 2023 (arXiv 2306.00354), where it is a mean over
checkpoints of a training; here it is that of the trained network. Images and noise are the same at every node.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.noise import NoiseSchedule
from .optimal_denoiser import Floats, Ints


def gradient_affinity(
    network: nn.Module,
    noise: NoiseSchedule,
    x0_nchw: Tensor,
    eps_nchw: Tensor,
    nodes: Ints,
    labels: Tensor | None = None,
) -> Floats:
    """G of a network `f(x_nchw, timesteps, labels)` at timesteps (G,), (G, G); its gradients are left as they were.

    labels: (N,) of the images, where the network is class-conditional.
    Memory: G floats for every parameter.
    """
    parameters = list(network.parameters())
    frozen = [parameter.requires_grad for parameter in parameters]
    gradients = torch.empty(len(nodes), sum(parameter.numel() for parameter in parameters))
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for row, node in enumerate(nodes.tolist()):
            timesteps = torch.full((len(x0_nchw),), node)
            x_n = noise.add_noise(x0_nchw, eps_nchw, timesteps)
            loss = F.mse_loss(network(x_n, timesteps, labels), eps_nchw)
            found = torch.autograd.grad(loss, parameters)
            gradients[row] = torch.cat([gradient.flatten() for gradient in found]).cpu()
    finally:
        for parameter, before in zip(parameters, frozen, strict=True):
            parameter.requires_grad_(before)
    unit = gradients / gradients.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    affinity: Floats = (unit @ unit.T).double().numpy()
    np.fill_diagonal(affinity, 1.0)
    return affinity
