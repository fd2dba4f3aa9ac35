"""The results of a bench as values: each peer's runs, what they come to, and the file that they are kept in."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.measure.figures import median, percentile, ratio
from bench.measure.trials import Burst, Lone
from bench.measure.usage import Usage

P99 = 0.99


@dataclass(frozen=True)
class Run:
    """One repeat of one peer; ``beside`` is None where other traffic was not tried."""

    burst: Burst
    lone: Lone
    beside: Lone | None = None


@dataclass
class Row:
    """A peer: its runs, and in a sentence why there are none, or no more."""

    name: str
    title: str
    runs: list[Run] = field(default_factory=list)
    why_not: str = ""


@dataclass(frozen=True)
class Summary:
    """Medians of a peer's runs: files a second, milliseconds, processor seconds for 1,000 files, MiB (PSS); nan if unknown."""

    rate: float
    rates: tuple[float, float]
    lone_p50: float
    lone_p99: float
    beside_p50: float
    beside_p99: float
    cpu: float
    server_cpu: float
    peak_mib: float
    server_peak_mib: float
    lost: int
    by_process: dict[str, float]
    """Processor seconds for 1,000 files by what a process runs."""

    @property
    def all_cpu(self) -> float:
        """Processor seconds for 1,000 files, the server's too."""
        return self.cpu + self.server_cpu


def summary(runs: Sequence[Run]) -> Summary:
    """Return the medians over some runs."""

    def over(value: Callable[[Run], float]) -> float:
        return median([value(run) for run in runs])

    def cpu(run: Run, seconds: float) -> float:
        return ratio(seconds * 1000, run.burst.arrived)

    rates = [run.burst.rate for run in runs]
    names = sorted({name for run in runs for name in run.burst.usage.by_process})
    beside = [run.beside for run in runs if run.beside]
    return Summary(
        rate=median(rates),
        rates=(min(rates, default=0.0), max(rates, default=0.0)),
        lone_p50=over(lambda run: percentile(run.lone.milliseconds, 0.5)),
        lone_p99=over(lambda run: percentile(run.lone.milliseconds, P99)),
        beside_p50=median([percentile(trial.milliseconds, 0.5) for trial in beside]),
        beside_p99=median([percentile(trial.milliseconds, P99) for trial in beside]),
        cpu=over(lambda run: cpu(run, run.burst.usage.cpu_seconds)),
        server_cpu=over(lambda run: cpu(run, run.burst.usage.server_cpu_seconds)),
        peak_mib=over(lambda run: run.burst.usage.peak_mib),
        server_peak_mib=over(lambda run: run.burst.usage.server_peak_mib),
        by_process={name: over(lambda run: cpu(run, run.burst.usage.by_process.get(name, 0.0))) for name in names},  # noqa: B023
        lost=sum(run.burst.files - run.burst.arrived + run.lone.missing for run in runs),
    )


def write(file: Path, rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Keep all that was measured, as JSON, with what it comes to."""
    peers = [{**asdict(row), "summary": asdict(summary(row.runs)) if row.runs else None} for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**about, "peers": peers}, indent=1), "utf-8")


def read(file: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return what was kept."""
    about = json.loads(file.read_text("utf-8"))
    return [_row(table) for table in about.pop("peers")], about


def _row(table: dict[str, Any]) -> Row:
    runs = [
        Run(
            Burst(**{**run["burst"], "usage": Usage(**run["burst"]["usage"])}),
            Lone(**run["lone"]),
            Lone(**run["beside"]) if run["beside"] else None,
        )
        for run in table["runs"]
    ]
    return Row(table["name"], table["title"], runs, table["why_not"])
