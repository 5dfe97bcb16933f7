import numpy as np
import torch
from torch import nn

from duodiff_pipeline.analysis.gradient_affinity import gradient_affinity
from duodiff_pipeline.diffusion.noise import NoiseSchedule

NOISE = NoiseSchedule()


class Scale(nn.Module):
    """eps = a x + b, whose gradients are known."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-0.2), requires_grad=False)

    def forward(self, x_nchw: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return self.a * x_nchw + self.b


def test_cosines_of_gradients_written_out() -> None:
    x0, eps = torch.randn(2, 6, 1, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    nodes, network = np.array([0, 300, 700, 999]), Scale()
    gradients = []
    for node in nodes:
        abar = NOISE.abar[node]
        x = np.sqrt(abar) * x0.double().numpy() + np.sqrt(1 - abar) * eps.double().numpy()
        error = 0.5 * x - 0.2 - eps.double().numpy()
        gradients.append([2 * (error * x).mean(), 2 * error.mean()])
    unit = np.array(gradients) / np.linalg.norm(gradients, axis=1, keepdims=True)
    found = gradient_affinity(network, NOISE, x0, eps, nodes)
    np.testing.assert_allclose(found, unit @ unit.T, atol=1e-5)
    assert (np.diag(found) == 1).all()
    assert (network.a.requires_grad, network.b.requires_grad) == (True, False)
    assert network.a.grad is None
