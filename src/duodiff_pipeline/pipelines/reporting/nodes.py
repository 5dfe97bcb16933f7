"""What people read."""

from typing import Any


def make_report(records: list[dict[str, Any]], timings: dict[str, Any]) -> str:
    return str(records)
