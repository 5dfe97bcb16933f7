"""The node that fine-tunes a backbone for an exit schedule."""

import copy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from duodiff_pipeline.config import Ase, HardwareSettings, LossGap, Noise, Training
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.dit import DiT, DiTConfig
from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.pipelines.stage_training.ase import exit_schedule, fine_tune
from duodiff_pipeline.pipelines.switch_search.nodes import measure_exit_errors, propose_exit_schedules

CONF = yaml.safe_load((Path(__file__).parents[2] / "conf" / "base" / "parameters.yml").read_text())
HARDWARE = HardwareSettings(accelerator="cpu", devices=1, precision="32-true", threads=1)
TRAINING = Training(**{**CONF["training"], "batch_images": 8, "warmup_steps": 2, "stored_as": "float32"})
NOISE = NoiseSchedule("cosine", 1000)
LOSS_GAP = LossGap(images=12, tolerance=0.1, seed=3)


def settings(**changes) -> Ase:
    return Ase(**{**CONF["ase"], "steps": 6, "learning_rate": 1e-2, "ema_decay": 0.5, **changes})


@pytest.fixture
def pack() -> ImagePack:
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImagePack(images, torch.zeros(20, dtype=torch.int64), "made up", "train", "none")


def exits(threshold: float) -> pd.DataFrame:
    """Two blocks above timestep 500, all five below."""
    rows = [(threshold, image, e, n, 2 if n > 500 else 5) for image in (0, 1) for e, n in enumerate((999, 501, 499, 0))]
    return pd.DataFrame(rows, columns=["threshold", "image", "evaluation", "timestep", "exit_depth"])


@pytest.fixture(params=["uvit", "dit"])
def deep(request, make_uvit, make_stored, pack) -> StoredNetwork:
    if request.param == "uvit":
        network = make_uvit(1, depth=5, noise=NOISE)
    else:
        network = DiT(DiTConfig(8, 1, 4, 16, 5, 2, noise=NOISE))
        network.init_weights(torch.Generator().manual_seed(0))
        torch.nn.init.normal_(network.final_linear.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return make_stored(network, request.param, data_sha256=pack.sha256)


def test_its_file_names_its_schedule_and_what_it_was_fine_tuned_from(deep, pack, tmp_path):
    def run(**changes):
        return fine_tune(deep, pack, settings(**changes), TRAINING, HARDWARE, 0, tmp_path)

    before = {name: tensor.clone() for name, tensor in deep.module.state_dict().items()}
    stored, curve, seconds = run()
    depths = (5, 5, 4, 4, 4, 4, 3, 3, 3, 3) if deep.header.kind == "uvit" else (5, 5, 4, 4, 4, 4, 3, 3, 2, 2)
    header = stored.header
    assert header.exit_schedule == {"depths": list(depths), "noise": {"kind": "cosine", "timesteps": 1000}}
    assert (header.kind, header.backbone_sha256, header.step) == (deep.header.kind, deep.sha256, 6)
    macs = sum(stored.module.macs_at(depth) for depth in depths) / 10
    assert curve["training_gmacs"] == pytest.approx(6 * 8 * 3 * macs / 1e9, rel=1e-5)
    assert not torch.equal(stored.module.patch_embed.proj.weight, deep.module.patch_embed.proj.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in deep.module.state_dict().items())
    again, _, seconds_again = run()  # nothing is trained twice
    assert (again.sha256, seconds_again) == (stored.sha256, seconds)
    heavier, _, _ = run(schedule="heavy")
    assert heavier.sha256 != stored.sha256
    errors = measure_exit_errors(deep, stored, pack, LOSS_GAP, HARDWARE)
    assert sorted(errors["depth"].unique()) == list(deep.module.exit_depths)
    proposed = propose_exit_schedules(errors, stored, settings(candidates=3), Noise(kind="cosine", timesteps=1000))
    assert 1 <= proposed["taken"].sum() <= 3
    assert list(depths) in [list(own) for own in proposed.loc[proposed["taken"], "depths"]]


def test_schedules_by_name_by_depths_and_by_exit_statistics(make_uvit):
    network = make_uvit(1, depth=5, noise=NOISE)

    def depths(**changes):
        return exit_schedule(settings(**changes), network, exits(0.1)).depths

    assert depths(schedule="light") == (5, 5, 5, 4, 4, 4, 4, 3, 3, 3)
    assert depths(schedule="depths", depths=(5, 4, 3)) == (5, 4, 3)
    # below 499 all five; two blocks are fewer than a U-ViT keeps
    assert depths(schedule="exit_statistics", threshold=0.1) == (5,) * 5 + (3,) * 5


def test_out_blocks_near_the_middle_may_go_first(make_uvit, make_stored, pack, tmp_path):
    deep = make_stored(make_uvit(1, depth=5, noise=NOISE), data_sha256=pack.sha256)
    inner = settings(dropped_first="inner", steps=2)
    stored, _, _ = fine_tune(deep, pack, inner, TRAINING, HARDWARE, 0, tmp_path)
    assert stored.module.needed_depths == [3, 3, 3, 5, 4]
    unchanged = replace(stored, module=copy.deepcopy(stored.module))
    unchanged.module.load_state_dict(deep.module.state_dict())
    errors = measure_exit_errors(deep, unchanged, pack, LOSS_GAP, HARDWARE)
    assert (errors["before"] == errors["after"]).all()  # the same blocks are left out
    assert StoredNetwork.load(next(tmp_path.rglob("network.safetensors"))).module.needed_depths == [3, 3, 3, 5, 4]
