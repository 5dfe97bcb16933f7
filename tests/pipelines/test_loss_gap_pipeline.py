"""The loss gap of two networks: a row an evaluation, and a switch a solver."""

import numpy as np
import pytest
import torch

from duodiff_pipeline.config import HardwareSettings, LossGap, Noise, SwitchCurves
from duodiff_pipeline.diffusion.solvers import Solver
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.pipelines.loss_gap.nodes import measure_loss_gap

HARDWARE = HardwareSettings(accelerator="cpu", devices=1, precision="32-true", threads=1)
NOISE = Noise(kind="linear", timesteps=1000)
CURVES = SwitchCurves(solver="ddim", history="carried", steps=(3, 5), controls=0)


@pytest.fixture
def held_out() -> ImagePack:
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImagePack(images, torch.zeros(20, dtype=torch.int64), "made up", "held_out", "none")


def measured(shallow, deep, held_out, tolerance, curves=CURVES):
    settings = LossGap(images=12, tolerance=tolerance, seed=3)
    return measure_loss_gap(shallow, deep, held_out, settings, curves, NOISE, HARDWARE)


def test_a_row_an_evaluation_and_a_switch_a_solver(make_uvit, make_stored, held_out):
    shallow, deep = make_stored(make_uvit(1, depth=1)), make_stored(make_uvit(2, depth=3))
    table, switches = measured(shallow, deep, held_out, 0.005)
    assert list(table.groupby("steps")["evaluation"].count()) == [3, 5]
    for steps, own in table.groupby("steps"):
        solver = Solver("ddim", steps)
        assert tuple(own["timestep"]) == solver.grid(NOISE.schedule())
        gap = own["coefficient"] ** 2 * (own["shallow_error"] - own["deep_error"])
        whole = (own["coefficient"] ** 2 * own["deep_error"]).sum()
        np.testing.assert_allclose(own["excess"], gap.cumsum() / whole, rtol=1e-9)
    assert [(switch["solver"], switch["steps"]) for switch in switches] == [("ddim", 3), ("ddim", 5)]


def test_a_network_against_itself_may_serve_all(make_uvit, make_stored, held_out):
    network = make_stored(make_uvit())
    table, switches = measured(network, network, held_out, 0.005)
    assert (table["excess"] == 0).all()
    assert [(s["k"], s["k_low"], s["k_high"]) for s in switches] == [(3, 3, 3), (5, 5, 5)]
    assert all(s["edge_low"] == s["timestep_edge"] == s["edge_high"] == 0 for s in switches)


def test_heun_has_a_row_an_evaluation_and_a_switch_that_parts_none_at_one_timestep(make_uvit, make_stored, held_out):
    shallow, deep = make_stored(make_uvit(1, depth=1)), make_stored(make_uvit(2, depth=3))
    curves = SwitchCurves(solver="heun", history="carried", steps=(4,), controls=0)
    for tolerance in (1e-6, 0.01, 0.3):
        table, (switch,) = measured(shallow, deep, held_out, tolerance, curves)
        assert tuple(table["timestep"]) == Solver("heun", 4).grid(NOISE.schedule())
        assert {switch["k"], switch["k_low"], switch["k_high"]} <= {0, 1, 3, 5, 7}
