"""Names beside points, placed so that they hide neither points nor each other where there is room."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SIZE = 8.5
WIDTH_OF_CHARACTER, HEIGHT_OF_LINE = 0.56 * SIZE, 1.15 * SIZE
POINT = 5.0  # half the side of a marker, like everything here in points
OFFSETS = [(9, 0), (9, 10), (9, -10), (-9, 0), (-9, 10), (-9, -10), (0, 13), (0, -13), (9, 21), (9, -21), (-9, 21), (-9, -21), (0, 24), (0, -24)]


def place_labels(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Label (x, y, text) points; call last, since limits and layout must stand.

    Greedy from the left: each label takes the first offset at which its box hits the least.
    """
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    at = axes.transData.transform([(x, y) for x, y, _ in points]) * scale
    frame = axes.get_window_extent()
    inside = np.array([frame.x0, frame.y0, frame.x1, frame.y1]) * scale
    taken = [np.array([x - POINT, y - POINT, x + POINT, y + POINT]) for x, y in at]
    for number in np.argsort(at[:, 0], kind="stable"):
        x, y, text = points[number]
        boxes = [_box(at[number], offset, len(text)) for offset in OFFSETS]
        hits = [sum(_overlap(box, other) for other in taken) + _outside(box, inside) for box in boxes]
        best = int(np.argmin(hits))
        taken.append(boxes[best])
        dx, dy = OFFSETS[best]
        far = {"arrowstyle": "-", "color": "#9aa5b1", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4} if abs(dy) > 13 else None
        axes.annotate(
            text, (x, y), xytext=(dx, dy), textcoords="offset points", ha=_side(dx), va="center", fontsize=SIZE, arrowprops=far, annotation_clip=False
        )


def _side(dx: float) -> str:
    return "center" if dx == 0 else ("left" if dx > 0 else "right")


def _box(point: np.ndarray, offset: tuple[float, float], characters: int) -> np.ndarray:
    width = characters * WIDTH_OF_CHARACTER
    x, y = point + np.array(offset)
    left = {"left": x, "center": x - width / 2, "right": x - width}[_side(offset[0])]
    return np.array([left, y - HEIGHT_OF_LINE / 2, left + width, y + HEIGHT_OF_LINE / 2])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two boxes (left, low, right, high) share."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(max(width, 0) * max(height, 0))


def _outside(box: np.ndarray, frame: np.ndarray) -> float:
    return float(np.clip(frame[:2] - box[:2], 0, None).sum() + np.clip(box[2:] - frame[2:], 0, None).sum()) * HEIGHT_OF_LINE
