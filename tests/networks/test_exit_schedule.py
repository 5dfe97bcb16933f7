import json
import logging

import pytest
import torch

from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.networks.exit_schedule import TABLES, ExitSchedule

NOISE = NoiseSchedule()


def test_the_published_table_stands_at_its_own_depth():
    demo = ExitSchedule.named("demo", range(1, 29), NOISE)
    assert demo.depths == (28, 28, 24, 24, 20, 20, 16, 16, 12, 12)
    assert demo.mean_depth == 20
    assert ExitSchedule.named("light", range(1, 29), NOISE).mean_depth == 22
    assert ExitSchedule.named("heavy", range(1, 29), NOISE).mean_depth == pytest.approx(18.3)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("full", [1, 2, 5, 9, 13, 28, 29])
def test_a_scaled_table_lies_within_half_a_block_of_its_shares(name, full):
    scaled = ExitSchedule.named(name, range(1, full + 1), NOISE).depths
    for depth, of_28 in zip(scaled, TABLES[name], strict=True):
        assert -0.5 < depth - of_28 * full / 28 <= 0.5 or (depth, full) == (1, 1)
    assert scaled[0] == full


def test_halves_round_up_and_what_a_network_cannot_drop_stays(caplog):
    with caplog.at_level(logging.INFO):
        assert ExitSchedule.from_relative([1, 0.7, 0.5, 0.5], range(1, 6), NOISE).depths == (5, 4, 3, 3)
        assert caplog.text == ""
        assert ExitSchedule.named("demo", range(3, 6), NOISE).depths == (5, 5, 4, 4, 4, 4, 3, 3, 3, 3)
    assert "the network runs 3 of its 5 blocks at least: fewer are raised to that" in caplog.text


def test_a_schedule_that_rises_towards_noise_is_refused_with_the_place():
    with pytest.raises(InputError) as refused:
        ExitSchedule((5, 3, 4, 3), NOISE)
    rises = "exit depths [5, 3, 4, 3] rise towards noise, from 3 to 4 at bin 2"
    assert str(refused.value) == f"{rises}: they go from data to noise and may only fall"


def test_names_and_depths_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="there is no exit schedule 'd3'; there are demo, light, heavy"):
        ExitSchedule.named("d3", range(1, 6), NOISE)
    with pytest.raises(InputError, match="exit depth 2 is none of this network, which runs 3 to 5 of its blocks"):
        ExitSchedule((5, 4, 2), NOISE).require_fits(range(3, 6))
    for depths in ((), (1,) * 1001):
        with pytest.raises(InputError, match=f"{len(depths)} exit depths do not divide 1000 timesteps into bins"):
            ExitSchedule(depths, NOISE)


def test_neighbouring_bins_of_one_depth_are_one_stage():
    stages = ExitSchedule((28, 28, 24, 24, 20, 20, 16, 16, 12, 12), NOISE).stages("ase")
    assert stages.edges == (800, 600, 400, 200)
    assert stages.serves == ("ase/12", "ase/16", "ase/20", "ase/24", "ase/28")
    assert ExitSchedule((5, 5), NOISE).stages("ase").serves == ("ase/5",)


@pytest.mark.parametrize("bins", [1, 3, 7, 10, 30, 60])
def test_training_and_sampling_agree_on_every_timestep(bins):
    schedule = ExitSchedule(tuple(range(bins, 0, -1)), NOISE)
    timesteps = torch.arange(1000)
    stages = schedule.stages("ase")
    assert [f"ase/{d}" for d in schedule.depth_at(timesteps).tolist()] == list(stages.assignment(timesteps.tolist()))


def test_a_published_bin_holds_a_hundred_timesteps():
    demo = ExitSchedule.named("demo", range(1, 29), NOISE)
    assert demo.depth_at(torch.tensor([0, 199, 200, 899.5, 900, 999])).tolist() == [28, 28, 24, 12, 12, 12]


def test_knee_slope_and_least_depth():
    assert ExitSchedule.from_knee(3, 2, 1, 5, 6, NOISE).depths == (5, 5, 4, 3, 3, 3)
    assert ExitSchedule.from_knee(3, 0, 0.5, 5, 6, NOISE).depths == (5, 4, 4, 3, 3, 3)
    assert ExitSchedule.from_knee(2, 6, 4, 5, 6, NOISE).depths == (5,) * 6
    with pytest.raises(InputError, match="rise towards noise"):
        ExitSchedule.from_knee(1, 0, -1, 5, 6, NOISE)


def test_it_survives_json():
    schedule = ExitSchedule((5, 4, 3), NoiseSchedule("cosine", 50))
    assert ExitSchedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
