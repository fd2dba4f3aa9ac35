"""Publish the speed table and chart in docs/."""

import shutil
from pathlib import Path

BEGIN, END = "<!-- make bench -->", "<!-- /make bench -->"


def publish(table: str, image: Path, docs: Path) -> None:
    """Replace the chart and the table between the marks in performance.md. Raises ValueError if the marks are missing."""
    page = docs / "performance.md"
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no marks {BEGIN} {END}")
    page.write_text(f"{before}{BEGIN}\n{table}{END}{after}", "utf-8")
    if image.exists():
        shutil.copy(image, docs / "throughput.png")
