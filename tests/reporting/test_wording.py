import pytest

from duodiff_pipeline.metrics.intervals import Interval
from duodiff_pipeline.reporting.wording import counted, difference_text, listed, number, percent, spread_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.000355, "0.000355"), (0.356, "0.356"), (12, "12.0"), (123.4, "123"), (18_300.2, "18,300"), (-0.5, "−0.500")],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.231, "23%"), (1.08, "108%"), (0.031, "3.1%"), (0.0, "0%")])
def test_percent(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("low", "value", "high", "text"),
    [
        (-0.3, 0.4, 1.1, "+0.40 (95% interval −0.30 to +1.10)"),
        (11.0, 18.0, 25.0, "+18.0 (95% interval +11.0 to +25.0)"),
        (-0.0004, 0.0031, 0.0066, "+0.0031 (95% interval −0.0004 to +0.0066)"),
        (0.0, 0.0, 0.0, "+0.0 (95% interval +0.0 to +0.0)"),
    ],
)
def test_difference_has_the_decimals_that_its_interval_bears(low, value, high, text):
    assert difference_text(Interval(value, low, high, "")) == text


def test_spread_and_counts():
    assert spread_text(2.333, 0.603) == "2.33 ± 0.60"
    assert (counted(1, "block"), counted(4000, "step")) == ("1 block", "4,000 steps")


def test_lists_read_as_in_a_sentence():
    assert (listed("a"), listed("ab"), listed([3, 7, 9])) == ("a", "a and b", "3, 7 and 9")
