"""Render the speed comparison as an aligned Markdown table, for a terminal and for docs/performance.md. Pure."""

import math
from collections.abc import Sequence

from bench.measure.figures import ratio
from bench.report.results import Row, Summary, summarize

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
REFERENCE = "celery"
SHOWN_MS_MIN = 0.005


def table(rows: Sequence[Row]) -> str:
    """Return the table with a line for each peer, then a list of errors and of processor time by process."""
    summaries = {row.name: summarize(row.runs) for row in rows if row.runs}
    lines = [list(HEAD)]
    for row in rows:
        if row.name in summaries:
            lines.append([row.title, *_cells(summaries[row.name], summaries.get(REFERENCE))])
        elif row.error:
            lines.append([row.title, "-", *[""] * (len(HEAD) - 2)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    rule = [("-" * width if column == 0 else "-" * (width - 1) + ":") for column, width in enumerate(widths)]
    aligned = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in (lines[0], rule, *lines[1:])]
    notes = [f"- {row.title}: {row.error}" for row in rows if row.error]
    notes += [
        f"- {row.title}, CPU ms per file: {_cpu_by_process(summaries[row.name])}" for row in rows if row.name in summaries
    ]
    return "\n".join([*aligned, "", *notes])


def _cpu_by_process(peer: Summary) -> str:
    seconds = {**peer.by_process, "server": peer.server_cpu}  # seconds per 1,000 files are milliseconds per file
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {used:.2f}" for name, used in ordered if used >= SHOWN_MS_MIN)


def _cells(peer: Summary, celery: Summary | None) -> list[str]:
    return [
        f"{peer.rate:,.0f} ({peer.rates[0]:,.0f}-{peer.rates[1]:,.0f})",
        _figure(ratio(peer.rate, celery.rate)) if celery else "",
        f"{_figure(peer.lone_p50)} / {_figure(peer.lone_p99)}",
        "" if math.isnan(peer.traffic_p50) else f"{_figure(peer.traffic_p50)} / {_figure(peer.traffic_p99)}",
        f"{peer.cpu:.2f} + {peer.server_cpu:.2f}",
        f"{peer.peak_mib:.0f} + {peer.server_peak_mib:.0f}",
        str(peer.lost),
    ]


def _figure(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.1f}"
