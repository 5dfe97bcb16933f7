"""Sample grids as PNG, and the loss curves they came from."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import matplotlib.image
from matplotlib.figure import Figure
from torch import Tensor

from ..images.pixels import grid_hwc
from .style import BLUE, GREEN, GREY, ORANGE, PINK, RED, drawn, fit_scale

COLUMNS = 5


def png_uri(images_u8: Tensor) -> str:
    """Images (N, C, H, W) uint8 as one grid, in a data URI; grey for one channel, colour for three."""
    grid = grid_hwc(images_u8, COLUMNS).numpy()
    buffer = io.BytesIO()
    # the name of the writing software, which carries its version, stays out
    options: dict[str, Any] = {"format": "png", "metadata": {"Software": None}}
    if grid.shape[2] == 1:
        matplotlib.image.imsave(buffer, grid[:, :, 0], cmap="gray", vmin=0, vmax=255, **options)
    else:
        matplotlib.image.imsave(buffer, grid, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@drawn(10.4, 3.6)
def training_figure(figure: Figure, curves: Mapping[str, Mapping[str, Any]]) -> None:
    """Loss against training steps; early exits, whose loss is another sum, have a panel of their own."""
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    colours = {"deep": BLUE, "shallow": ORANGE, "middle": GREY}
    others = iter([GREEN, PINK, RED] * len(curves))
    values: dict[Any, list[float]] = {left: [], right: []}
    for name, curve in curves.items():
        if not curve["losses"]:  # fewer steps than lie between two points
            continue
        axes = right if name == "early_exits" else left
        steps, losses = zip(*curve["losses"], strict=True)
        axes.plot(steps, losses, marker=".", color=colours.get(name) or next(others), label=name.replace("_", " "))
        values[axes] += losses
    for axes, title in ((left, "backbones"), (right, "heads and probes of early exits")):
        axes.set(title=title, xlabel="training step", xlim=(0, None))
        fit_scale(axes, "y", values[axes])
    left.set_ylabel("training loss")
    if values[left]:
        left.legend()
