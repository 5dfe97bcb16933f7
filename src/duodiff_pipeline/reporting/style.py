"""How figures look: one palette (Okabe and Ito's, told apart by colour-blind readers too), one way to become SVG,
one to name points."""

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

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
    "ase": Role("ASE", RED, "v"),
    "multistage": Role("multistage", SKY, "P"),
    "front": Role("the rest of the front", INK, "d"),
    "control": Role("control", GREY, "X"),
}
MULTISTAGE = Role("DuoDiff, more than 2 stages", GREEN, "p")

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

# Names beside points; all in points, 1/72 inch.
FONT_SIZE = 8.5
CHARACTER_WIDTH, LINE_HEIGHT = 0.56 * FONT_SIZE, 1.15 * FONT_SIZE
MARKER = 7.0  # half the side of what a marker keeps free
OFFSETS = [
    (10, 0),
    (-10, 0),
    (10, 10),
    (-10, 10),
    (10, -10),
    (-10, -10),
    (0, 14),
    (0, -14),
    (10, 22),
    (10, -22),
    (-10, 22),
    (-10, -22),
    (0, 27),
    (0, -27),
]
RANK = 12.0  # area, in square points, that a label may hide to get the next better offset

Box = NDArray[np.float64]  # left, low, right, high


def role_of(role: str, stages: int) -> Role:
    """Of a plan in a figure, where a DuoDiff of more than two stages has a marker of its own."""
    return MULTISTAGE if role == "duodiff" and stages > 2 else ROLES[role]


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


def place_labels(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Label points (x, y, text, colour) so that names hide neither points nor each other where there is room.

    Call last, since limits and layout must stand. Greedy from the left: each label takes the offset at which its box
    hides the least.
    """
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    at = axes.transData.transform([(x, y) for x, y, *_ in points]) * scale
    frame = axes.get_window_extent()
    inside = np.array([frame.x0, frame.y0, frame.x1, frame.y1]) * scale
    taken = [np.concatenate([point - MARKER, point + MARKER]) for point in at]
    for number in np.argsort(at[:, 0], kind="stable"):
        x, y, text, colour = points[number]
        boxes = [_box(at[number], offset, len(text)) for offset in OFFSETS]
        hidden = [
            sum(_shared(box, other) for other in taken) + _outside(box, inside) + RANK * rank
            for rank, box in enumerate(boxes)
        ]
        best = int(np.argmin(hidden))
        taken.append(boxes[best])
        dx, dy = OFFSETS[best]
        line = (
            {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 5} if abs(dy) >= 10 else None
        )
        axes.annotate(
            text,
            (x, y),
            xytext=(dx, dy),
            textcoords="offset points",
            ha=_alignment(dx),
            va="center",
            fontsize=FONT_SIZE,
            color=_darkened(colour),
            arrowprops=line,
        )


def _darkened(colour: str) -> str:
    """Readable as text on white."""
    red, green, blue = (0.6 * own + 0.4 * ink for own, ink in zip(to_rgb(colour), to_rgb(INK), strict=True))
    return to_hex((red, green, blue))


def _alignment(dx: float) -> str:
    return "center" if dx == 0 else "left" if dx > 0 else "right"


def _box(point: NDArray[np.float64], offset: tuple[float, float], characters: int) -> Box:
    width = characters * CHARACTER_WIDTH
    x, y = point + np.array(offset)
    left = x - {"left": 0, "center": width / 2, "right": width}[_alignment(offset[0])]
    return np.array([left, y - LINE_HEIGHT / 2, left + width, y + LINE_HEIGHT / 2])


def _shared(a: Box, b: Box) -> float:
    """Area of the intersection."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(max(width, 0) * max(height, 0))


def _outside(box: Box, frame: Box) -> float:
    """Area of a label that the frame does not hold."""
    return float((box[2] - box[0]) * (box[3] - box[1])) - _shared(box, frame)
