"""How alike the optimal denoisers are along the timesteps, and the stages that this gives."""

from ...analysis.clustering import similarity_edges
from ...analysis.denoiser_similarity import DenoiserDifferences, denoiser_differences
from ...analysis.optimal_denoiser import DataRange, OptimalDenoiser
from ...config import Noise, TimestepClustering
from ...diffusion.noise import NoiseSchedule
from ...errors import InputError
from ...images.examples import Examples

SHOWN_RANGES = {"centred": "images in [-1, 1]", "unit": "images in [0, 1]", "latent": "latents"}


def denoiser_of(train: Examples, noise: NoiseSchedule, data_range: DataRange, images: int | None) -> OptimalDenoiser:
    """Of all training examples, or of that many."""
    return OptimalDenoiser(train.rows(images), noise, data_range=data_range)


def require_drawn_on(
    differences: DenoiserDifferences,
    train: Examples,
    noise: NoiseSchedule,
    data_range: DataRange,
    images: int | None,
) -> None:
    """Raises InputError where draws belong to other images, fewer or more of them, another schedule or data range."""
    drawn_on = (differences.data_sha256, differences.images, differences.noise, differences.data_range)
    if drawn_on != (train.sha256, min(images or len(train), len(train)), noise, data_range):
        raise InputError(
            "denoiser_differences were drawn on other images, another noise schedule or data range: "
            "run the pipeline optimal_denoiser again"
        )


def measure_denoisers(
    train: Examples, draws: int, data_range: DataRange, seed: int, images: int | None, noise: Noise
) -> DenoiserDifferences:
    """Every draw's differences to the optimal denoisers of both ends."""
    return denoiser_differences(denoiser_of(train, noise.schedule(), data_range, images), draws, seed, train.sha256)


def summarise_edges(differences: DenoiserDifferences, settings: TimestepClustering) -> str:
    """The paper's two edges at every eta and alpha, as t in 0..1 and as timesteps, for the terminal."""
    total = differences.noise.timesteps
    lines = [
        f"stages by optimal denoisers: {len(differences.timesteps)} draws, {differences.noise.kind} noise, "
        f"{SHOWN_RANGES[differences.data_range]}",
        f"{'eta':>8}  {'alpha':>6}  {'t1':>6}  {'t2':>6}  timesteps",
    ]
    for eta in settings.etas:
        for alpha in settings.alphas:
            found = similarity_edges(differences, eta, alpha)
            t1, t2 = ("none" if t is None else f"{t / total:.3f}" for t in (found.t1, found.t2))
            what = ", ".join(f"{edge:g}" for edge in reversed(found.edges)) or found.message
            lines.append(f"{eta:8.4g}  {alpha:6.4g}  {t1:>6}  {t2:>6}  {what}")
    return "\n".join(lines)
