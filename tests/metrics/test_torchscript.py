import hashlib
import re
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from typing import ClassVar

import numpy as np
import pytest
import torch
from scripted import Maps, StandIn, WithoutFlag, save_scripted

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.files import ANEW
from duodiff_pipeline.metrics.classifier import FeatureClassifier
from duodiff_pipeline.metrics.extractor import extract_features
from duodiff_pipeline.metrics.torchscript import TorchScriptExtractor


class Served(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def log_message(self, *_):
        self.asked.append(self.path)


@pytest.fixture
def url(tmp_path):
    """Of a folder `served` on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    Served.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), partial(Served, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def images(n: int, channels: int, size: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


def test_features_are_those_of_the_module_called_for_features(tmp_path):
    path = tmp_path / "inception.pt"
    extractor = TorchScriptExtractor.open(path, save_scripted(path))
    colour = images(5, 3)
    with torch.inference_mode():
        expected = StandIn()(colour, return_features=True).numpy()
    assert extractor.name == "inception.pt"
    assert np.allclose(extract_features(extractor, colour, batch_images=2), expected, rtol=1e-5)
    assert expected.shape == (5, 12)


def test_grey_images_are_repeated_to_three_channels(tmp_path):
    path = tmp_path / "inception.pt"
    extractor = TorchScriptExtractor.open(path, save_scripted(path))
    grey = images(4, 1)
    assert torch.equal(extractor(grey), extractor(grey.repeat(1, 3, 1, 1)))


def test_a_module_without_the_flag_is_called_with_images_alone(tmp_path):
    path = tmp_path / "means.pt"
    extractor = TorchScriptExtractor.open(path, save_scripted(path, WithoutFlag()))
    assert torch.equal(extractor(images(4, 3)), images(4, 3).float().mean(dim=(2, 3)))


def test_its_own_file_gives_the_same_extractor(tmp_path):
    path, own = tmp_path / "inception.pt", tmp_path / "extractor.safetensors"
    sha256 = save_scripted(path)
    TorchScriptExtractor.open(path, sha256).save(own)
    loaded = TorchScriptExtractor.load(own)
    assert (loaded.name, loaded.sha256) == ("inception.pt", sha256)
    assert torch.equal(loaded(images(3, 3)), StandIn()(images(3, 3), return_features=True))
    with pytest.raises(InputError, match=f"holds 'TorchScript feature extractor', not 'feature classifier': {ANEW}$"):
        FeatureClassifier.load(own)


def test_another_file_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    path = tmp_path / "inception.pt"
    found = save_scripted(path)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))} has the sha256 {found}, not {'0' * 64}$"):
        TorchScriptExtractor.open(path, "0" * 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path} cannot be read: No such file or directory"),
        (b"no archive", "inception.pt is no TorchScript file"),
    ],
)
def test_no_file_and_no_torchscript(tmp_path, content, message):
    path = tmp_path / "inception.pt"
    if content:
        path.write_bytes(content)
    sha256 = hashlib.sha256(content or b"").hexdigest()
    with pytest.raises(InputError, match=f"^{re.escape(message.format(path=path))}"):
        TorchScriptExtractor.open(path, sha256)


def test_what_gives_no_features_is_refused(tmp_path):
    maps, path = tmp_path / "maps.pt", tmp_path / "inception.pt"
    with pytest.raises(InputError, match=r"^maps.pt gives of shape \(2, 3, 9, 9\) for 2 images"):
        TorchScriptExtractor.open(maps, save_scripted(maps, Maps()))(images(2, 3))
    with pytest.raises(InputError, match=r"^inception.pt fails on images of shape \(2, 9, 9\): "):
        TorchScriptExtractor.open(path, save_scripted(path))(images(2, 2))


def test_downloaded_once_and_kept(tmp_path, url):
    sha256 = save_scripted(tmp_path / "served" / "inception.pt")
    for _ in range(2):
        extractor = TorchScriptExtractor.fetch(f"{url}/inception.pt", sha256, tmp_path / "cache")
        assert (extractor.name, extractor.sha256) == ("inception.pt", sha256)
    assert Served.asked == ["/inception.pt"]


def test_a_download_that_is_another_file_is_not_kept(tmp_path, url):
    found = save_scripted(tmp_path / "served" / "inception.pt")
    with pytest.raises(InputError, match=f"^{url}/inception.pt gives a file of sha256 {found}, not {'1' * 64}$"):
        TorchScriptExtractor.fetch(f"{url}/inception.pt", "1" * 64, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_what_cannot_be_downloaded_says_what_else_to_do(tmp_path, url):
    for missing, reason in ((f"{url}/none.pt", "File not found"), ("http://127.0.0.1:9/none.pt", "Connection refused")):
        with pytest.raises(InputError, match=f"^{missing} cannot be downloaded .*{reason}.*give its path in place"):
            TorchScriptExtractor.fetch(missing, "1" * 64, tmp_path / "cache")
