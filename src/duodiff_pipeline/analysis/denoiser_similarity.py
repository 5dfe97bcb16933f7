"""How alike the optimal denoisers of two timesteps are (Zhang et al., CVPR 2024, arXiv 2312.09181, section 3).

Symbols: K draws (y_k, eps_k, n_k) of a training image, noise (d,) and a timestep; tolerance eta in units of eps.

    D(a, b; y, eps)   share of coordinates i with |eps*_a(x_a) - eps*_b(x_b)|_i <= eta, x_a and x_b sharing (y, eps)
    S(a, b)           mean of D over y and eps, in [0, 1]: the paper's "distance", though large where they are alike

Denoising happens once; the differences of every draw are kept, so that any eta, and any alpha, is evaluated afterwards
for nothing.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffusion.noise import NoiseSchedule
from ..diffusion.random import keyed_generator
from ..files import load_tensors, save_tensors
from .optimal_denoiser import DataRange, Floats, Ints, OptimalDenoiser

BATCH_DRAWS = 256
KIND = "denoiser differences"


@dataclass(frozen=True, eq=False)
class DenoiserDifferences:
    """Algorithm 1's draws, sorted by timestep.

    timesteps: (K,) int64, rising.
    to_data, to_noise: (K, d) float32, |eps*_n(x_n) - eps*_m(x_m)| for m = 0 and m = T-1.
    noise, data_range, data_sha256, images: what they were drawn on, and how many images of it.
    """

    timesteps: Ints
    to_data: NDArray[np.float32]
    to_noise: NDArray[np.float32]
    noise: NoiseSchedule
    data_range: DataRange
    data_sha256: str
    images: int

    def save(self, path: Path) -> None:
        header = {"noise": asdict(self.noise), "images": self.images}
        header |= {"data_range": self.data_range, "data_sha256": self.data_sha256}
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in ("timesteps", "to_data", "to_noise")}
        save_tensors(path, KIND, header, tensors)

    @classmethod
    def load(cls, path: Path) -> "DenoiserDifferences":
        """Raises InputError, naming the file, where it is missing or damaged."""
        header, tensors = load_tensors(path, KIND)
        timesteps, to_data, to_noise = (tensors[name].numpy() for name in ("timesteps", "to_data", "to_noise"))
        header["noise"] = NoiseSchedule(**header["noise"])
        return cls(timesteps, to_data, to_noise, **header)


@dataclass(frozen=True, eq=False)
class NodePredictions:
    """The same draws denoised at every node.

    nodes: (G,) int64, rising timesteps.
    eps: (G, K, d) float32, eps*_n(x_n).
    """

    nodes: Ints
    eps: NDArray[np.float32]

    def similarity(self, eta: float) -> Floats:
        """S(a, b) between all nodes, (G, G), ones on the diagonal."""
        size = len(self.nodes)
        similarity = np.eye(size)
        for a in range(size):
            for b in range(a):
                similarity[a, b] = similarity[b, a] = (np.abs(self.eps[a] - self.eps[b]) <= eta).mean()
        return similarity


def denoiser_differences(
    denoiser: OptimalDenoiser, draws: int, seed: int, data_sha256: str = ""
) -> DenoiserDifferences:
    """Differences of eps* at uniformly drawn timesteps to eps* at both ends; data_sha256: names the images.

    The first of many draws are those of few: more draws extend an estimate. Raises ValueError for no draws.
    """
    y, eps, timesteps = _draw(denoiser, draws, seed)
    order = np.argsort(timesteps, kind="stable")
    ends = {"to_data": 0, "to_noise": denoiser.noise.timesteps - 1}
    differences = {name: np.empty(y.shape, dtype=np.float32) for name in ends}
    for start in range(0, draws, BATCH_DRAWS):
        batch = slice(start, start + BATCH_DRAWS)
        chosen = order[batch]
        here = denoiser.predict_from(y[chosen], eps[chosen], timesteps[chosen])
        for name, end in ends.items():
            there = denoiser.predict_from(y[chosen], eps[chosen], np.full(len(chosen), end))
            differences[name][batch] = np.abs(here - there)
    return DenoiserDifferences(
        timesteps[order],
        **differences,
        noise=denoiser.noise,
        data_range=denoiser.data_range,
        data_sha256=data_sha256,
        images=len(denoiser.images),
    )


def node_predictions(denoiser: OptimalDenoiser, nodes: int, draws: int, seed: int) -> NodePredictions:
    """eps* of the same draws at each of `nodes` timesteps, spread evenly over 0..T-1.

    Raises ValueError for fewer nodes than 2 or more than timesteps, and for no draws.
    """
    last = denoiser.noise.timesteps - 1
    if not 2 <= nodes <= last + 1:
        raise ValueError(f"{nodes} nodes on {last + 1} timesteps: allowed are 2 to {last + 1}")
    y, eps, _ = _draw(denoiser, draws, seed)
    at = np.linspace(0, last, nodes).round().astype(np.int64)
    predicted = np.empty((nodes, *y.shape), dtype=np.float32)
    for start in range(0, draws, BATCH_DRAWS):
        batch = slice(start, start + BATCH_DRAWS)
        for node, timestep in enumerate(at):
            predicted[node, batch] = denoiser.predict_from(y[batch], eps[batch], np.full(len(y[batch]), timestep))
    return NodePredictions(at, predicted)


def _draw(denoiser: OptimalDenoiser, draws: int, seed: int) -> tuple[Floats, Floats, Ints]:
    """Images y (K, d), noise eps (K, d) and uniform timesteps (K,), each draw from a generator of its own."""
    if draws < 1:
        raise ValueError(f"{draws} draws: at least one is needed")
    images, dimensions = denoiser.images.shape
    y, eps, timesteps = np.empty((draws, dimensions)), np.empty((draws, dimensions)), np.empty(draws, dtype=np.int64)
    for k in range(draws):
        own = keyed_generator(seed, "optimal denoiser", k)
        y[k] = denoiser.scaled(denoiser.images[own.integers(images)])
        timesteps[k] = own.integers(denoiser.noise.timesteps)
        eps[k] = own.standard_normal(dimensions)
    return y, eps, timesteps
