"""Numbers as a reader wants them, the same everywhere."""

import math
from collections.abc import Iterable

from ..metrics.intervals import CONFIDENCE, Interval
from ..metrics.records import MetricRecord
from .measured import MeasuredPlan

MINUS = "\N{MINUS SIGN}"


def number(value: float) -> str:
    """Three significant digits, without exponent for what a person would write out."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", MINUS)
    text = f"{value:#.3g}".rstrip(".")
    return text.replace("-", MINUS, 1) if value < 0 else text


def percent(share: float) -> str:
    return f"{share:.0%}" if abs(share) >= 0.1 or share == 0 else f"{share:.1%}"


def record_text(record: MetricRecord) -> str:
    """Value and 95% interval with the decimals that the interval bears: 8.5 (7.5 to 9.5)."""
    places = _places(record.interval_high - record.interval_low)
    text = f"{record.value:.{places}f} ({record.interval_low:.{places}f} to {record.interval_high:.{places}f})"
    return text.replace("-", MINUS)


def share_text(record: MetricRecord) -> str:
    """A share and its 95% interval: 67.1% (65.0% to 69.2%)."""
    return f"{record.value:.1%} ({record.interval_low:.1%} to {record.interval_high:.1%})"


def change_text(difference: Interval) -> str:
    """Value and interval where it goes without saying that it is one: +0.4 (−0.3 to +1.1)."""
    return f"{signed(difference)} ({interval_ends(difference)})"


def speed_up_text(plan: MeasuredPlan) -> str:
    """Median and extremes over the blocks: 1.92 (1.69 to 2.07)."""
    return f"{plan.speed_up:.2f} ({plan.speed_up_low:.2f} to {plan.speed_up_high:.2f})"


def difference_text(difference: Interval) -> str:
    """Value and interval: +0.4 (95% interval −0.3 to +1.1)."""
    return f"{signed(difference)} ({CONFIDENCE:.0%} interval {interval_ends(difference)})"


def spread_text(mean: float, spread: float) -> str:
    """With two digits of the spread: 2.33 ± 0.60."""
    places = _places(2 * spread)
    return f"{mean:.{places}f} ± {spread:.{places}f}".replace("-", MINUS)


def signed(difference: Interval) -> str:
    """The value alone, with the decimals that its interval bears."""
    return _signed(difference.value, _places(difference.high - difference.low))


def interval_ends(difference: Interval) -> str:
    places = _places(difference.high - difference.low)
    return f"{_signed(difference.low, places)} to {_signed(difference.high, places)}"


def sentence(text: str) -> str:
    """With a capital at its head."""
    return text[:1].upper() + text[1:]


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(words: Iterable[object]) -> str:
    """As in a sentence: "shallow, middle and deep"."""
    *earlier, last = map(str, words)
    return f"{', '.join(earlier)} and {last}" if earlier else last


def _signed(value: float, places: int) -> str:
    return f"{value:+.{places}f}".replace("-", MINUS)


def _places(width: float) -> int:
    """Decimals that show two digits of half an interval's width."""
    return min(6, max(1, 1 - math.floor(math.log10(width / 2)))) if width > 0 else 1
