"""Names beside points, placed so that they hide neither points nor each other where there is room."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .style import GREY, INK

# All in points, 1/72 inch.
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


def place_labels(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Label points (x, y, text, colour); call last, since limits and layout must stand.

    Greedy from the left: each label takes the offset at which its box hides the least.
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
