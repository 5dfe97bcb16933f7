"""What generated images are measured with and against, as parameters choose it."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from duodiff_pipeline.config import HardwareSettings, MetricReference
from duodiff_pipeline.datasets.files import Extractor
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.metrics.against_reference import AgainstReference
from duodiff_pipeline.metrics.classifier import FeatureClassifier
from duodiff_pipeline.metrics.extractor import extract_features
from duodiff_pipeline.metrics.torchscript import TorchScriptExtractor
from duodiff_pipeline.pipelines.metric_reference.nodes import make_extractor, measure_floor, reference_statistics

HARDWARE = HardwareSettings(accelerator="cpu", devices=1, precision="32-true", threads=1)
METRICS = ("fid_infinity", "precision", "recall")


class Inception(nn.Module):
    """In the calling convention of the literature's network, with 6 features."""

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert img.dtype == torch.uint8
        pooled = nn.functional.adaptive_avg_pool2d(img.float() / 255, [1, 2]).flatten(1)
        return pooled.square() if return_features else pooled[:, :1]


def settings(**changes) -> MetricReference:
    small = dict(features=8, width=4, steps=3, batch_images=8, learning_rate=1e-3, seed=0, floor_repeats=3)
    return MetricReference(**{"extractor": None, "reference": "held_out", **small, **changes})


def pack(split: str, n: int) -> ImagePack:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return ImagePack(images, torch.arange(n) % 2, "noise", split, "none")


TRAIN, HELD_OUT = pack("train", 60), pack("held_out", 30)


@pytest.fixture
def scripted(tmp_path) -> tuple[Path, str]:
    path = tmp_path / "inception.pt"
    torch.jit.save(torch.jit.script(Inception()), str(path))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def made(chosen: MetricReference, data: Path):
    return make_extractor(TRAIN, HELD_OUT, chosen, HARDWARE, data / ".work" / "test")


def test_a_classifier_unless_a_file_is_named(tmp_path):
    extractor, about = made(settings(), tmp_path)
    assert isinstance(extractor, FeatureClassifier)
    assert about["learns"] == "classes"
    assert 0 <= about["held_out_accuracy"] <= 1


@pytest.mark.parametrize("place", ["path", "url"])
def test_a_torchscript_file_by_path_or_url_survives_the_catalog(tmp_path, scripted, place):
    path, sha256 = scripted
    where = {"path": str(path)} if place == "path" else {"url": path.as_uri()}
    extractor, about = made(settings(extractor={**where, "sha256": sha256}), tmp_path / "data")
    assert about == {"name": "inception.pt", "sha256": sha256, "learns": None, "held_out_accuracy": None}
    stored = Extractor(str(tmp_path / "extractor.safetensors"))
    stored.save(extractor)
    loaded = stored.load()
    assert isinstance(loaded, TorchScriptExtractor)
    assert (loaded.name, loaded.sha256) == (extractor.name, sha256)
    features = extract_features(loaded, TRAIN.images, 16)
    assert features.shape == (60, 6)
    kept = [found.name for found in (tmp_path / "data").rglob("*.pt")]
    assert kept == ([] if place == "path" else ["inception.pt"])
    if place == "url":
        path.unlink()  # the next run needs no network
        assert made(settings(extractor={**where, "sha256": sha256}), tmp_path / "data")[0].sha256 == sha256


@pytest.mark.parametrize(
    ("reference", "n_images", "sample", "drawn_from"),
    [("held_out", 30, HELD_OUT, TRAIN), ("train", 60, TRAIN, HELD_OUT), ("published", None, TRAIN, HELD_OUT)],
)
def test_the_reference_and_the_floor_of_the_other_images(tmp_path, scripted, reference, n_images, sample, drawn_from):
    path, sha256 = scripted
    published = tmp_path / "published.npz"
    np.savez(published, mu=np.full(6, 0.25), sigma=0.01 * np.eye(6))
    chosen = settings(
        extractor={"path": str(path), "sha256": sha256},
        reference=str(published) if reference == "published" else reference,
    )
    extractor, _ = made(chosen, tmp_path)
    found = reference_statistics(extractor, TRAIN, HELD_OUT, chosen, HARDWARE)
    assert (found.split, found.statistics.n_images, found.extractor_sha256) == (reference, n_images, sha256)
    files = {"published": hashlib.sha256(published.read_bytes()).hexdigest()}
    assert found.data_sha256 == files.get(reference, sample.sha256)
    floor = measure_floor(extractor, TRAIN, HELD_OUT, found, chosen, 20, METRICS, HARDWARE)
    assert set(floor) == {"fid", "kid", *METRICS}
    # the whole of what is drawn from, so that it does not depend on the draw
    n = len(drawn_from)
    whole = measure_floor(extractor, TRAIN, HELD_OUT, found, chosen, n, METRICS, HARDWARE)
    against = AgainstReference(found.statistics, extract_features(extractor, sample.images, 16))
    features = extract_features(extractor, drawn_from.images, 16)
    for metric in ("fid", "kid", "precision", "recall"):
        assert whole[metric]["n_images"] == n
        assert whole[metric]["mean"] == pytest.approx(against.measure(metric, features), rel=1e-6)
    assert floor["fid"]["n_images"] == 20


def test_published_statistics_of_another_extractor_are_refused(tmp_path):
    path = tmp_path / "inception.npz"
    np.savez(path, mu=np.zeros(20), sigma=np.eye(20))
    extractor, _ = made(settings(), tmp_path)
    message = f"^{re.escape(str(path))} is of 20 features, but {extractor.name} has 8$"
    with pytest.raises(InputError, match=message):
        reference_statistics(extractor, TRAIN, HELD_OUT, settings(reference=str(path)), HARDWARE)
