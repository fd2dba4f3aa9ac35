"""Check inboxd's figures against their limits, some of which are relative to its peers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.measure.figures import ratio
from bench.report.results import Summary

SETTLE_MS = 2000.0
"""The default settle_seconds."""


@dataclass(frozen=True)
class LimitCheck:
    """A figure and its limit, a minimum or a maximum. ``target`` is a higher minimum that is aimed for but not required."""

    name: str
    value: float
    limit: float
    is_minimum: bool
    target: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the figure is within the limit; False if it is nan because nothing was measured."""
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit

    @property
    def message(self) -> str:
        """The figure, its limit and the result, with the target if only that was missed."""
        sign = ">=" if self.is_minimum else "<="
        result = "ok" if self.is_met else "MISSED"
        if self.is_met and self.target is not None and self.value < self.target:
            result = f"ok, below the target {self.target:g}"
        return f"{self.name}: {self.value:.3g} ({sign} {self.limit:g}) {result}"


def check_limits(summaries: Mapping[str, Summary]) -> list[LimitCheck]:
    """Return the checks for the summaries, which are keyed by peer; comparisons with absent peers are omitted."""
    checks = []
    if inboxd := summaries.get("inboxd"):
        if celery := summaries.get("celery"):
            rate, cpu = ratio(inboxd.rate, celery.rate), ratio(inboxd.all_cpu, celery.all_cpu)
            checks += [
                LimitCheck("throughput, times plain Celery", rate, 12, is_minimum=True, target=20),
                LimitCheck("processor time, share of plain Celery's", cpu, 0.1, is_minimum=False),
            ]
        if bullmq := summaries.get("bullmq"):
            rate = ratio(inboxd.rate, bullmq.rate)
            checks.append(LimitCheck("throughput, times chokidar + BullMQ", rate, 1.8, is_minimum=True, target=2.5))
        checks += [
            LimitCheck("lone file, p50 in ms", inboxd.lone_p50, 8, is_minimum=False),
            LimitCheck("lone file, p99 in ms", inboxd.lone_p99, 30, is_minimum=False),
            LimitCheck("lone file with other traffic, p99 in ms", inboxd.traffic_p99, 100, is_minimum=False),
            LimitCheck("files lost", inboxd.lost, 0, is_minimum=False),
        ]
    if settle := summaries.get("inboxd-settle"):
        checks += [
            LimitCheck("lone file at the default settle, p50 in ms", settle.lone_p50, SETTLE_MS + 8, is_minimum=False),
            LimitCheck("lone file at the default settle, p99 in ms", settle.lone_p99, SETTLE_MS + 30, is_minimum=False),
        ]
    return checks
