import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack, require_images


def make_pack(**changes) -> ImagePack:
    fields = {
        "images": torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        "labels": torch.tensor([0, 3, 1, 2, 0, 1]),
        "source": "digits",
        "split": "train",
        "transform": "none",
    }
    return ImagePack(**{**fields, **changes})


def assert_refused(path, *words: str) -> None:
    with pytest.raises(InputError) as refusal:
        ImagePack.load(path)
    message = str(refusal.value)
    assert "\n" not in message
    assert str(path) in message
    assert all(word in message for word in words)


def test_round_trip_keeps_images_manifest_and_identity(tmp_path):
    pack, path = make_pack(), tmp_path / "packs" / "train.safetensors"
    pack.save(path)
    loaded = ImagePack.load(path)
    assert torch.equal(loaded.images, pack.images)
    assert torch.equal(loaded.labels, pack.labels)
    assert (loaded.source, loaded.split, loaded.transform) == ("digits", "train", "none")
    assert loaded.sha256 == pack.sha256
    assert (len(loaded), loaded.shape_chw, loaded.classes) == (6, (1, 8, 8), 4)


def test_sha256_identifies_images_and_labels_wherever_they_come_from(tmp_path):
    pack = make_pack()
    assert make_pack(source="idx", split="held_out", transform="?").sha256 == pack.sha256
    one_pixel = pack.images.clone()
    one_pixel[5, 0, 7, 7] += 1
    assert make_pack(images=one_pixel).sha256 != pack.sha256
    assert make_pack(labels=pack.labels.flip(0)).sha256 != pack.sha256
    assert make_pack(images=pack.images.flip(0)).sha256 != pack.sha256


def test_a_pack_cut_from_a_larger_tensor_is_stored_alone(tmp_path):
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    pack = make_pack(images=images[::10], labels=torch.arange(60)[::10])
    pack.save(tmp_path / "part.safetensors")
    assert ImagePack.load(tmp_path / "part.safetensors").sha256 == pack.sha256
    assert (tmp_path / "part.safetensors").stat().st_size < 60 * 64


def test_a_missing_pack_is_named(tmp_path):
    assert_refused(tmp_path / "none.safetensors", "does not exist")


@pytest.mark.parametrize("position", [0.02, 0.5, 0.9, 0.999])
def test_a_flipped_bit_is_refused(tmp_path, position):
    path = tmp_path / "train.safetensors"
    make_pack().save(path)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    assert_refused(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.999])
def test_a_truncated_pack_is_refused(tmp_path, share):
    path = tmp_path / "train.safetensors"
    make_pack().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path, "damaged")


def test_a_network_file_is_no_pack(tmp_path, make_uvit, make_stored):
    path = tmp_path / "deep.safetensors"
    make_stored(make_uvit()).save(path)
    assert_refused(path, "holds 'network', not 'image pack'")


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (torch.zeros(2, 1, 8, 9, dtype=torch.uint8), torch.zeros(2), "photos: images are 8x9"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(3), "photos: 2 images but 3 labels"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), "photos: images are torch.float32, not 8-bit"),
    ],
)
def test_images_that_cannot_be_used_are_refused(images, labels, reason):
    with pytest.raises(InputError, match=reason):
        require_images(images, labels, "photos")
    require_images(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2), "photos")
