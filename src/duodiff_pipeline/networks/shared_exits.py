"""AdaDiff as its authors' code does it: a stack trained so that its own output layers can read out after any block.

Source: Tang et al., arXiv 2309.17074, and the authors' code, from which the paper's equations differ. Probe i sees the
output of block i and tells a confidence c_i for every pixel; there are no further heads, and the network is fine-tuned
together with the probes. An image leaves after block i where the mean of c_i exceeds a threshold: 1 - c_i is the
uncertainty that thresholds are told in here, so their 0.92 is 0.08.

Mended: every image decides for itself, where the code takes the mean over the batch, and the output layers run for
images that leave only, not at every block that is passed.

Symbols: g_i noise that the output layers predict after block i, eps the true noise.
"""

import torch
from torch import Tensor, nn

from .dit import DiT, DiTConfig
from .probes import AttentionProbe, ConfidenceMap, ProbeName, init_probes, make_probes, probe_macs
from .transformer import TransformerBackbone, TransformerConfig
from .uvit import UViT, UViTConfig


class SharedExits(nn.Module):
    """A fine-tuned network of L blocks and its L probes, of which the last serves training only; see `Exits`.

    probe: linear makes a map of confidences; attention one confidence an image, which stands for all its pixels.
    """

    def __init__(self, config: TransformerConfig, probe: ProbeName = "linear") -> None:
        super().__init__()
        self.config = config
        self.tuned = _untrained(config)
        self.probes = make_probes({"linear": ConfidenceMap, "attention": AttentionProbe}[probe], config)

    def init_weights(self, network: TransformerBackbone, generator: torch.Generator) -> None:
        """Start as a copy of the network, every probe near 1/2."""
        self.tuned.load_state_dict(network.state_dict())
        init_probes(self.probes, generator)

    @property
    def depths(self) -> range:
        return range(1, self.config.depth)

    def network(self, backbone: TransformerBackbone) -> TransformerBackbone:
        return self.tuned

    def uncertainty(self, depth: int, tokens_nsd: Tensor) -> Tensor:
        return 1 - self._confidence(depth, tokens_nsd).mean(dim=(1, 2, 3))

    def read_out(self, depth: int, tokens_nsd: Tensor, x_nchw: Tensor, timesteps: Tensor) -> Tensor:
        return self.tuned.read_out(tokens_nsd, x_nchw, timesteps)

    def _confidence(self, depth: int, tokens_nsd: Tensor) -> Tensor:
        """(N, C, H, W), or (N, 1, 1, 1) by attention; tokens learn nothing from it."""
        confidence = self.probes[depth - 1](tokens_nsd.detach())
        return confidence if confidence.dim() == 4 else confidence[:, None, None, None]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all blocks, probes and outputs for one image, as in training."""
        reads = self.tuned.macs - self.tuned.macs_before_blocks[-1]
        return self.tuned.macs + (self.config.depth - 1) * reads + len(self.probes) * self.probe_macs

    @property
    def probe_macs(self) -> int:
        return probe_macs(self.probes, self.config)

    def forward(self, x_nchw: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images at timesteps (N,) to predicted noise (L, N, C, H, W) and confidences (L, N, C, H, W) of every block.

        By attention, the confidences are (L, N, 1, 1, 1).
        """
        tokens, skips = self.tuned.embed(x_nchw, timesteps, labels), list[Tensor]()
        eps, confidences = [], []
        for i in range(self.config.depth):
            tokens = self.tuned.run_block(i, tokens, skips)
            eps.append(self.tuned.read_out(tokens, x_nchw, timesteps))
            confidences.append(self._confidence(i + 1, tokens))
        return torch.stack(eps), torch.stack(confidences)


def _untrained(config: TransformerConfig) -> TransformerBackbone:
    if isinstance(config, DiTConfig):
        return DiT(config)
    assert isinstance(config, UViTConfig)
    return UViT(config)


def shared_exit_loss(
    eps_lnchw: Tensor, confidence_lnchw: Tensor, eps_nchw: Tensor, weight_n: Tensor
) -> dict[str, Tensor]:
    """The loss of network and probes, by part; the sum of the parts is what is minimised.

    eps_lnchw: (L, N, C, H, W) read out after every block; confidence_lnchw: of the probes, as `SharedExits` gives them;
    eps_nchw: (N, C, H, W) the true noise; weight_n: (N,) what the network's own loss is weighted by.

    network: MSE_L; probes: mean over layers, images and pixels of (c_i - (1 - tanh|g_i - eps|))^2, the target without
    gradient; layers: sum over layers of w_i * MSE_i, where w_i is the mean confidence of layer i over the batch, as a
    share of the sum over layers. As in the authors' code the w_i carry their gradient, so probes also learn to trust
    the layers that are better than the others.
    """
    return shared_exit_loss_of_means(*shared_exit_means(eps_lnchw, confidence_lnchw, eps_nchw, weight_n))


def shared_exit_means(
    eps_lnchw: Tensor, confidence_lnchw: Tensor, eps_nchw: Tensor, weight_n: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What the loss is made of: MSE_i (L,) and mean confidence (L,) of every layer, and the loss of the probes ().

    Each is a mean over the images, so that those of a batch are the means of those of its equal parts.
    """
    error = eps_lnchw - eps_nchw
    target = 1 - error.detach().abs().tanh()
    mse_l = (error.square().mean(dim=(2, 3, 4)) * weight_n).mean(dim=1)
    confidence_l = confidence_lnchw.mean(dim=(1, 2, 3, 4))
    probes = (confidence_lnchw - target).square().mean()
    return mse_l, confidence_l, probes


def shared_exit_loss_of_means(mse_l: Tensor, confidence_l: Tensor, probes: Tensor) -> dict[str, Tensor]:
    """As `shared_exit_loss`, of what `shared_exit_means` gives."""
    return {
        "network": mse_l[-1],
        "probes": probes,
        "layers": (confidence_l / confidence_l.sum()) @ mse_l,
    }
