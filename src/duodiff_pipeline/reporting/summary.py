"""The end of a run on the terminal: one table, the recommendation, and where the rest is."""

import io
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from .findings import Findings
from .statements import headline, reasons
from .wording import number, record_text, speed_up_text, spread_text

WIDTH = 110
WIDEST = 200  # of the table: names of plans stay whole


def summary(findings: Findings, paths: Mapping[str, str]) -> str:
    """Plain text; paths: what to read next, by what it is."""
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("denoiser", no_wrap=True, vertical="bottom")
    for column in ("GMACs\nan image", "seconds\nan image", "speed-up\n(over blocks)", "FID\n(95% interval)"):
        table.add_column(column, justify="right", no_wrap=True)
    for plan in findings.plans:
        speed_up = "1" if plan is findings.baseline else speed_up_text(plan)
        table.add_row(plan.name, number(plan.gmacs), number(plan.seconds_per_image), speed_up, record_text(plan.record))
    floor = findings.floor
    n = "" if findings.floor_compares else f" at another n, {floor.n_images}"
    table.add_row(f"floor: real images{n}", "", "", "", spread_text(floor.mean, floor.spread))

    buffer = io.StringIO()
    console = Console(file=buffer, width=WIDEST, color_system=None, highlight=False, markup=False, emoji=False)
    console.print(table)
    console.print()
    console.print(f"{headline(findings)}. {' '.join(reasons(findings))}", width=WIDTH)
    console.print()
    for what, path in paths.items():
        console.print(f"{what}: {path}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())
