import numpy as np
import torch
from scipy import stats

from duodiff_pipeline.diffusion.random import image_noise, keyed_generator, keyed_torch_generator

SHAPE = (1, 4, 4)


def test_noise_of_an_image_does_not_depend_on_its_neighbours():
    together = image_noise(3, range(10), SHAPE, 5)
    assert together.dtype == torch.float32
    for i in range(10):
        assert torch.equal(image_noise(3, [i], SHAPE, 5)[0], together[i])
    assert torch.equal(image_noise(3, [7, 2], SHAPE, 5), together[[7, 2]])


def test_noise_differs_by_seed_image_and_evaluation():
    keys = [(seed, image, evaluation) for seed in (0, 1) for image in (0, 1, 2) for evaluation in (0, 1, 2)]
    drawn = {image_noise(seed, [image], SHAPE, evaluation).numpy().tobytes() for seed, image, evaluation in keys}
    assert len(drawn) == len(keys)


def test_noise_is_standard_normal_over_images_and_over_evaluations():
    for values in (
        image_noise(0, range(500), SHAPE, 0),
        torch.cat([image_noise(0, [0], SHAPE, evaluation) for evaluation in range(500)]),
    ):
        assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3


def test_purposes_and_indices_have_generators_of_their_own():
    keys = [(0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", 0, 1), (0, "a", 0, 0, 1)]
    assert len({keyed_generator(*key).integers(2**62) for key in keys}) == len(keys)
    assert np.array_equal(keyed_generator(0, "a", 4).random(3), keyed_generator(0, "a", 4).random(3))


def test_torch_generator_is_a_function_of_seed_and_purpose():
    def draw(seed: int, purpose: str) -> tuple[float, ...]:
        return tuple(torch.randn(3, generator=keyed_torch_generator(seed, purpose)).tolist())

    assert draw(0, "weights of deep") == draw(0, "weights of deep")
    assert len({draw(0, "weights of deep"), draw(0, "weights of shallow"), draw(1, "weights of deep")}) == 3
