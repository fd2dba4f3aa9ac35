"""The results of the speed comparison: each peer's runs, their summary, and the JSON file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.measure.figures import median, percentile, ratio
from bench.measure.trials import Burst, LoneFiles
from bench.measure.usage import Usage

P99 = 0.99


@dataclass(frozen=True)
class Run:
    """One repeat of one peer; ``with_traffic`` is None if that trial was omitted."""

    burst: Burst
    lone: LoneFiles
    with_traffic: LoneFiles | None = None


@dataclass
class Row:
    """A peer's runs, and the error that ended or prevented them, if any."""

    name: str
    title: str
    runs: list[Run] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Summary:
    """Medians of a peer's runs: files per second, milliseconds, CPU seconds per 1,000 files, MiB (PSS); nan if not measured."""

    rate: float
    rates: tuple[float, float]
    lone_p50: float
    lone_p99: float
    traffic_p50: float
    traffic_p99: float
    cpu: float
    server_cpu: float
    peak_mib: float
    server_peak_mib: float
    lost: int
    by_process: dict[str, float]
    """CPU seconds per 1,000 files by process name."""

    @property
    def all_cpu(self) -> float:
        """CPU seconds per 1,000 files, including the server's."""
        return self.cpu + self.server_cpu


def summarize(runs: Sequence[Run]) -> Summary:
    """Return the medians of the runs."""

    def median_of(value: Callable[[Run], float]) -> float:
        return median([value(run) for run in runs])

    def cpu(run: Run, seconds: float) -> float:
        return ratio(seconds * 1000, run.burst.arrived)

    rates = [run.burst.rate for run in runs]
    names = sorted({name for run in runs for name in run.burst.usage.by_process})
    with_traffic = [run.with_traffic for run in runs if run.with_traffic]
    return Summary(
        rate=median(rates),
        rates=(min(rates, default=0.0), max(rates, default=0.0)),
        lone_p50=median_of(lambda run: percentile(run.lone.milliseconds, 0.5)),
        lone_p99=median_of(lambda run: percentile(run.lone.milliseconds, P99)),
        traffic_p50=median([percentile(trial.milliseconds, 0.5) for trial in with_traffic]),
        traffic_p99=median([percentile(trial.milliseconds, P99) for trial in with_traffic]),
        cpu=median_of(lambda run: cpu(run, run.burst.usage.cpu_seconds)),
        server_cpu=median_of(lambda run: cpu(run, run.burst.usage.server_cpu_seconds)),
        peak_mib=median_of(lambda run: run.burst.usage.peak_mib),
        server_peak_mib=median_of(lambda run: run.burst.usage.server_peak_mib),
        by_process={name: median_of(lambda run: cpu(run, run.burst.usage.by_process.get(name, 0.0))) for name in names},  # noqa: B023
        lost=sum(run.burst.files - run.burst.arrived + run.lone.missing for run in runs),
    )


def write(file: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """Write the runs, their summaries and the facts to a JSON file."""
    peers = [{**asdict(row), "summary": asdict(summarize(row.runs)) if row.runs else None} for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**facts, "peers": peers}, indent=1), "utf-8")


def read(file: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows and facts from a JSON file."""
    facts = json.loads(file.read_text("utf-8"))
    return [_row(table) for table in facts.pop("peers")], facts


def _row(table: dict[str, Any]) -> Row:
    runs = [
        Run(
            Burst(**{**run["burst"], "usage": Usage(**run["burst"]["usage"])}),
            LoneFiles(**run["lone"]),
            LoneFiles(**run["with_traffic"]) if run["with_traffic"] else None,
        )
        for run in table["runs"]
    ]
    return Row(table["name"], table["title"], runs, table["error"])
