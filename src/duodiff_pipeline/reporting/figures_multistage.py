"""FID of the networks of the multistage comparison, over the cost of training and over that of sampling."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .multistage import Measured, Section
from .style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, drawn, fit_scale

LOOKS = [(BLUE, "o"), (GREEN, "D"), (ORANGE, "s"), (PINK, "^"), (RED, "v"), (GREY, "X")]
DASHES = ("-", "--", ":", "-.")


@drawn(10.4, 4.6)
def training_cost_figure(figure: Figure, section: Section) -> None:
    """Left: FID along the training; right: of the final networks along the number of steps. A line a training."""
    left, right = figure.subplots(1, 2)
    most = section.settings.sampling_steps[-1]
    for number, name in enumerate(section.settings.networks):
        look = LOOKS[number % len(LOOKS)]
        for which, seed in enumerate(section.settings.seeds):
            own = [m for m in section.measured if (m.network, m.seed) == (name, seed)]
            label = name.replace("_", " ") if which == 0 else None
            dash = DASHES[which % len(DASHES)]
            on_the_way = [m for m in own if m.steps == most]
            _line(left, [m.training_gmacs for m in on_the_way], on_the_way, look, dash, label)
            final = [m for m in own if m.final]
            _line(right, [m.gmacs for m in final], final, look, dash, None)
    for axes, cost in ((left, "cost of training (GMACs)"), (right, "cost of sampling (GMACs an image)")):
        if section.floor is not None:
            low, high = section.floor.mean - section.floor.spread, section.floor.mean + section.floor.spread
            axes.axhspan(low, high, color=SKY, alpha=0.3, linewidth=0)
        axes.set(xlabel=cost, ylabel="FID")
        fit_scale(axes, "y", [m.fid.value for m in section.measured])
    left.set_title(f"{section.settings.solver}, {most} steps")
    right.set_title("final networks, by number of steps")
    figure.legend(loc="outside lower center", ncols=4)


def _line(
    axes: Axes, at: list[float], points: list[Measured], look: tuple[str, str], dash: str, label: str | None
) -> None:
    colour, marker = look
    fids = [point.fid for point in points]
    axes.vlines(at, [fid.low for fid in fids], [fid.high for fid in fids], color=colour, linewidth=1.2, alpha=0.6)
    values = [fid.value for fid in fids]
    axes.plot(at, values, marker=marker, linestyle=dash, color=colour, linewidth=1, markersize=5, label=label)
