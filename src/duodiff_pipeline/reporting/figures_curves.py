"""Figures of every switch: FID over cost beside the controls, and over the excess error that the loss gap foretells."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ..images.pixels import grid_hwc
from ..metrics.reference import Floor
from .curves import AT_ITS_COST, CurvePoint, SwitchCurve
from .style import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, SKY, drawn, fit_scale

CONTROLS = {
    "deep": (BLUE, "o", "deep, fewer steps"),
    "middle": (PINK, "^", "middle"),
    "reversed": (GREY, "X", "the order reversed"),
}
FIRST_STAGE = ((RED, "v"), (INK, "P"))


@drawn(10.4, 4.6)
def curves_figure(
    figure: Figure, curves: Sequence[SwitchCurve], controls: Mapping[str, Sequence[CurvePoint]], floor: Floor | None
) -> None:
    """A panel a number of steps: FID of every switch, of the controls that cost as much, and of networks that take the
    shallow one's place in the first stage, with 95 % intervals.

    controls: by role, of all numbers of steps; floor: where it was measured at the same n.
    """
    first_stage = {role: None for curve in curves for role in curve.roles if role not in AT_ITS_COST}
    drawn_as = dict(zip(first_stage, cycle(FIRST_STAGE)))
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, curve in zip(panels, curves, strict=True):
        least, most = curve.points[-1].gmacs, curve.points[0].gmacs
        if floor is not None:
            axes.axhspan(floor.mean - floor.spread, floor.mean + floor.spread, color=SKY, alpha=0.3, linewidth=0)
        fids = [point.fid.value for point in curve.points]
        for role, (colour, marker, _) in CONTROLS.items():
            own = [p for p in controls.get(role, ()) if 0.999 * least <= p.gmacs <= 1.001 * most]
            own = [p for p in own if role != "reversed" or p.steps == curve.steps]
            _line(axes, own, colour, marker)
            fids += [point.fid.value for point in own]
        for role, (colour, marker) in drawn_as.items():
            own = [
                CurvePoint(f"{role}, then deep", curve.steps, k, curve.at(k)[0].gmacs, rival.blocks)
                for k, rival in curve.against(role).items()
            ]
            _line(axes, own, colour, marker)
            fids += [point.fid.value for point in own]
        _line(axes, curve.points, GREEN, "D")
        for point, colour, marker in ((curve.points[0], BLUE, "o"), (curve.points[-1], ORANGE, "s")):
            axes.plot(point.gmacs, point.fid.value, marker, color=colour, markersize=8, zorder=4)
        axes.set(title=f"{curve.solver}, {curve.steps} steps", xlabel="cost (GMACs an image)")
        fit_scale(axes, "y", fids)
    panels[0].set_ylabel("FID")
    keys = [_key("DuoDiff, every switch", GREEN, "D"), _key("deep", BLUE, "o"), _key("shallow", ORANGE, "s")]
    keys += [_key(label, colour, marker) for colour, marker, label in list(CONTROLS.values())[1:]]
    keys += [_key(f"{role}, then deep", *look) for role, look in drawn_as.items()]
    if floor is not None:
        keys.append(Line2D([], [], color=SKY, alpha=0.4, linewidth=8, label="floor ± spread"))
    figure.legend(handles=keys, loc="outside lower center", ncols=6)


@drawn(10.4, 4.0)
def loss_gap_figure(
    figure: Figure, curves: Sequence[SwitchCurve], excess: Sequence[Sequence[float]], tolerance: float
) -> None:
    """A panel a number of steps: FID of every switch over its excess error; excess: by curve."""
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, curve, own in zip(panels, curves, excess, strict=True):
        _line(axes, curve.points, GREEN, "D", own)
        axes.axvline(tolerance, color=INK, linewidth=1, linestyle="--")
        axes.set(title=f"{curve.solver}, {curve.steps} steps", xlabel="excess error, share of the deep network's")
    panels[0].set_ylabel("FID")
    keys = [_key("DuoDiff, k from 0 upwards", GREEN, "D")]
    keys.append(Line2D([], [], color=INK, linewidth=1, linestyle="--", label="tolerance"))
    figure.legend(handles=keys, loc="outside lower center", ncols=2)


@drawn(10.4, 3.2)
def samples_figure(figure: Figure, images: Mapping[str, Tensor]) -> None:
    """Images (N, C, H, W) uint8 by name, the first 20 of each."""
    for axes, (name, own) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        grid = grid_hwc(own[:20], 5).numpy()
        axes.imshow(grid if grid.shape[2] == 3 else grid[:, :, 0], cmap="gray", vmin=0, vmax=255)
        axes.set_title(name)
        axes.axis("off")


def _line(axes: Axes, points: Sequence[CurvePoint], colour: str, marker: str, x: Sequence[float] | None = None) -> None:
    if not points:
        return
    at, fids = x or [point.gmacs for point in points], [point.fid for point in points]
    axes.vlines(at, [fid.low for fid in fids], [fid.high for fid in fids], color=colour, linewidth=1.2, alpha=0.6)
    axes.plot(
        at,
        [fid.value for fid in fids],
        marker=marker,
        color=colour,
        linewidth=1,
        markersize=4.5,
        markeredgewidth=0,
        zorder=3,
    )


def _key(label: str, colour: str, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, markeredgewidth=0, label=label)
