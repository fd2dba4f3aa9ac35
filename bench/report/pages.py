"""Putting a bench's table and chart into docs/."""

import shutil
from pathlib import Path

BEGIN, END = "<!-- make bench -->", "<!-- /make bench -->"


def publish(table: str, image: Path, docs: Path) -> None:
    """Replace the table in docs/performance.md, between its marks, and the chart beside it. Raises ValueError without marks."""
    page = docs / "performance.md"
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no marks {BEGIN} {END}")
    page.write_text(f"{before}{BEGIN}\n{table}{END}{after}", "utf-8")
    if image.exists():
        shutil.copy(image, docs / "throughput.png")
