"""The table of a bench, for a terminal and for docs/performance.md alike: Markdown. Pure."""

import math
from collections.abc import Sequence

from bench.measure.figures import ratio
from bench.report.results import Row, Summary, summary

HEAD = (
    "",
    "files/s (min-max)",
    "times Celery",
    "lone p50 / p99 ms",
    "beside traffic p50 / p99 ms",
    "CPU s per 1,000 (+ server)",
    "peak MiB (+ server)",
    "lost",
)
YARDSTICK = "celery"
SHOWN_MS = 0.005


def table(rows: Sequence[Row]) -> str:
    """Return a line for each peer, in columns that are aligned; below, why one could not be measured, or not to the end."""
    sums = {row.name: summary(row.runs) for row in rows if row.runs}
    lines = [list(HEAD)]
    for row in rows:
        if row.name in sums:
            lines.append([row.title, *_cells(sums[row.name], sums.get(YARDSTICK))])
        elif row.why_not:
            lines.append([row.title, "-", *[""] * (len(HEAD) - 2)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    rule = [("-" * width if column == 0 else "-" * (width - 1) + ":") for column, width in enumerate(widths)]
    drawn = ["| " + " | ".join(map(_padded, line, widths)) + " |" for line in (lines[0], rule, *lines[1:])]
    notes = [f"- {row.title}: {row.why_not}" for row in rows if row.why_not]
    notes += [f"- {row.title}, CPU ms per file: {_parts(sums[row.name])}" for row in rows if row.name in sums]
    return "\n".join([*drawn, "", *notes])


def _parts(of: Summary) -> str:
    parts = {**of.by_process, "server": of.server_cpu}  # seconds for 1,000 files are milliseconds for one
    return ", ".join(
        f"{name} {used:.2f}" for name, used in sorted(parts.items(), key=lambda part: -part[1]) if used >= SHOWN_MS
    )


def _cells(of: Summary, celery: Summary | None) -> list[str]:
    return [
        f"{of.rate:,.0f} ({of.rates[0]:,.0f}-{of.rates[1]:,.0f})",
        _figure(ratio(of.rate, celery.rate)) if celery else "",
        f"{_figure(of.lone_p50)} / {_figure(of.lone_p99)}",
        "" if math.isnan(of.beside_p50) else f"{_figure(of.beside_p50)} / {_figure(of.beside_p99)}",
        f"{of.cpu:.2f} + {of.server_cpu:.2f}",
        f"{of.peak_mib:.0f} + {of.server_peak_mib:.0f}",
        str(of.lost),
    ]


def _figure(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.1f}"


def _padded(cell: str, width: int) -> str:
    return cell.ljust(width)
