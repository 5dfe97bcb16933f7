import hashlib
import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.files import ANEW
from duodiff_pipeline.metrics.classifier import FeatureClassifier
from duodiff_pipeline.metrics.extractor import extract_features
from duodiff_pipeline.metrics.frechet import GaussianStatistics, frechet_distance
from duodiff_pipeline.metrics.reference import ReferenceStatistics, floor


def small_reference() -> ReferenceStatistics:
    statistics = GaussianStatistics(np.array([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 1.0]]), 10)
    return ReferenceStatistics(statistics, "extractor", "a" * 64, "b" * 64, "held_out")


@pytest.fixture(scope="module")
def digits_features(classifier, digits):
    return tuple(extract_features(classifier, images, batch_images=256) for images in (digits.train, digits.held_out))


def fid_to(features):
    reference = GaussianStatistics.from_features(features)
    return lambda drawn: frechet_distance(GaussianStatistics.from_features(drawn), reference)


def test_file_gives_the_same_reference(tmp_path):
    path, reference = tmp_path / "reference.safetensors", small_reference()
    reference.save(path)
    loaded = ReferenceStatistics.load(path)
    assert loaded.sha256 == reference.sha256
    assert np.array_equal(loaded.statistics.mu, reference.statistics.mu)
    assert np.array_equal(loaded.statistics.sigma, reference.statistics.sigma)
    assert loaded.statistics.n_images == 10
    assert (loaded.extractor, loaded.extractor_sha256) == ("extractor", "a" * 64)
    assert (loaded.data_sha256, loaded.split) == ("b" * 64, "held_out")


def test_sha256_is_the_same_in_every_process():
    assert small_reference().sha256 == "fc5634cb4d232ecf7ab6b7de0ad6ef92f122fa65a29e84dd321681ec4db84ff2"


@pytest.mark.parametrize("field", ["extractor", "extractor_sha256", "data_sha256", "split"])
def test_sha256_covers_the_provenance(field):
    assert replace(small_reference(), **{field: "other"}).sha256 != small_reference().sha256


@pytest.mark.parametrize("field", ["mu", "sigma", "n_images"])
def test_sha256_covers_the_statistics(field):
    statistics = small_reference().statistics
    other = replace(statistics, **{field: getattr(statistics, field) + 1})
    assert replace(small_reference(), statistics=other).sha256 != small_reference().sha256


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("a", "b"):
        small_reference().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "reference.safetensors"
    small_reference().save(path)
    before = path.read_bytes()

    def no_space(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space left"):
        replace(small_reference(), split="train").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_classifier_file_is_no_reference_and_the_reverse(classifier, tmp_path):
    path = tmp_path / "file.safetensors"
    classifier.save(path)
    message = f"{path} holds 'feature classifier', not 'reference statistics': {ANEW}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReferenceStatistics.load(path)
    small_reference().save(path)
    message = f"{path} holds 'reference statistics', not 'feature classifier': {ANEW}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FeatureClassifier.load(path)


def test_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "file.safetensors"
    save_file({"mu": torch.ones(2)}, path)
    message = f"{path} holds 'foreign', not 'reference statistics': {ANEW}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReferenceStatistics.load(path)


def test_any_flipped_or_missing_byte_is_noticed(tmp_path):
    path = tmp_path / "reference.safetensors"
    small_reference().save(path)
    whole = path.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    cut = [whole[:i] for i in range(0, len(whole), 7)]
    for damaged in flipped + cut:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))} (is|holds) "):
            ReferenceStatistics.load(path)


def published(path, **arrays) -> ReferenceStatistics:
    np.savez(path, **arrays)
    return ReferenceStatistics.published(path, "inception", "a" * 64)


def test_published_statistics(tmp_path):
    mu, sigma = np.array([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 1.0]])
    found = published(tmp_path / "cifar10.npz", mu=mu, sigma=sigma.astype(np.float32), more=np.ones(3))
    ours = small_reference()
    assert frechet_distance(found.statistics, ours.statistics) == pytest.approx(0)
    assert (found.split, found.statistics.n_images, found.extractor) == ("published", None, "inception")
    assert found.data_sha256 == hashlib.sha256((tmp_path / "cifar10.npz").read_bytes()).hexdigest()
    found.save(tmp_path / "reference.safetensors")
    assert ReferenceStatistics.load(tmp_path / "reference.safetensors").sha256 == found.sha256


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.ones(2)}, "is no .npz file with the arrays mu and sigma"),
        ({"mu": np.array([{}]), "sigma": np.eye(1)}, "is no .npz file with the arrays mu and sigma"),
        ({"mu": np.ones(2), "sigma": np.eye(3)}, r"holds mu \(2,\) and sigma \(3, 3\), not \(D,\) and \(D, D\)"),
        ({"mu": np.full(2, np.nan), "sigma": np.eye(2)}, "holds numbers that are not finite"),
        ({"mu": np.ones(2), "sigma": np.array([[1, 2], [0, 1]])}, ".* or a sigma that is not symmetric"),
    ],
)
def test_files_that_hold_no_statistics(tmp_path, arrays, message):
    path = tmp_path / "published.npz"
    with pytest.raises(InputError, match=f"^{re.escape(str(path))} {message}"):
        published(path, **arrays)


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "published.npz"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        ReferenceStatistics.published(path, "inception", "a" * 64)
    for content in (b"", b"text", pickle.dumps({"mu": 1})):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"is no .npz file"):
            ReferenceStatistics.published(path, "inception", "a" * 64)
    np.save(path.with_suffix(".npy"), np.ones(3))
    path.write_bytes(path.with_suffix(".npy").read_bytes())
    with pytest.raises(InputError, match=r"is no .npz file"):
        ReferenceStatistics.published(path, "inception", "a" * 64)


def test_floor_written_out(digits_features):
    train, held_out = digits_features
    fid = fid_to(held_out)
    found = floor(train, fid, n=599, repeats=8, seed=0)
    assert found.n_images == 599
    assert found.mean == pytest.approx(sum(found.values) / 8)
    assert found.spread == pytest.approx((sum((v - found.mean) ** 2 for v in found.values) / 7) ** 0.5)
    assert len(set(found.values)) == 8
    # Real images of the same kind are much nearer than real images with a little noise on them.
    noisy = train[:599] + np.random.default_rng(0).normal(0, 1, size=(599, 64))
    assert found.mean + 3 * found.spread < fid(noisy)


def test_a_draw_depends_on_seed_and_number_alone(digits_features):
    train, held_out = digits_features
    fid = fid_to(held_out)
    values = floor(train, fid, n=100, repeats=4, seed=0).values
    assert floor(train, fid, n=100, repeats=2, seed=0).values == values[:2]
    assert not set(floor(train, fid, n=100, repeats=4, seed=1).values) & set(values)


def test_draws_are_without_replacement(digits_features):
    """A draw of all images is the same set every time; with replacement it would not be."""
    train, held_out = digits_features
    fid = fid_to(held_out)
    found = floor(train, fid, n=len(train), repeats=3, seed=0)
    assert found.values == pytest.approx([fid(train)] * 3, rel=1e-9)


@pytest.mark.parametrize(
    ("n", "repeats", "message"),
    [
        (1199, 5, "the floor cannot draw 1199 of 1198 real images"),
        (599, 1, "the floor's spread needs at least 2 draws, not 1"),
    ],
)
def test_floors_that_cannot_be_are_refused(digits_features, n, repeats, message):
    train, held_out = digits_features
    with pytest.raises(ValueError, match=f"^{message}$"):
        floor(train, fid_to(held_out), n=n, repeats=repeats, seed=0)
