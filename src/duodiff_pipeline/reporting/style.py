"""How figures look: one palette (Okabe and Ito's, told apart by colour-blind readers too), one way to become SVG."""

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec

import matplotlib
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

BLUE, ORANGE, GREEN, PINK, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
INK, GREY, LIGHT = "#1f2933", "#7b8794", "#e4e7eb"
SUGGESTED, SEARCHED = RED, GREEN


class Role(NamedTuple):
    """How the points of one role are drawn."""

    label: str
    colour: str
    marker: str


ROLES = {
    "deep": Role("deep", BLUE, "o"),
    "shallow": Role("shallow", ORANGE, "s"),
    "duodiff": Role("DuoDiff", GREEN, "D"),
    "adadiff": Role("AdaDiff", PINK, "^"),
    "control": Role("control", GREY, "X"),
}

_RC: Any = {
    "svg.fonttype": "none",  # text stays text and takes the page's font
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": LIGHT,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def drawn(
    width_inches: float, height_inches: float
) -> Callable[[Callable[Concatenate[Figure, P], None]], Callable[P, str]]:
    """Turn a function that draws on an empty figure into one that returns it as an <svg> element.

    Equal content gives equal text: no date, and identifiers that depend on content and function name alone.
    """

    def decorate(draw: Callable[Concatenate[Figure, P], None]) -> Callable[P, str]:
        @wraps(draw)
        def as_svg(*args: P.args, **kwargs: P.kwargs) -> str:
            with matplotlib.rc_context({**_RC, "svg.hashsalt": draw.__name__}):
                figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
                draw(figure, *args, **kwargs)
                buffer = io.StringIO()
                figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
            text = buffer.getvalue()
            return text[text.index("<svg") :]

        return as_svg

    return decorate


def fit_scale(axes: Axes, which: str, values: list[float]) -> None:
    """A logarithmic axis with plain numbers where values span more than a factor of 4, else a linear one."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < 4 * min(positive):
        return
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    ratio = max(positive) / min(positive)
    subs = (1, 1.5, 2, 3, 4, 5, 7) if ratio < 10 else (1, 2, 3, 5) if ratio < 40 else (1, 2, 5) if ratio < 400 else (1,)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())
