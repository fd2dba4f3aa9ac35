"""What inboxd must reach beside its peers, and whether it does. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.measure.figures import ratio
from bench.report.results import Summary

SETTLE_MS = 500.0
"""The default settle_seconds."""


@dataclass(frozen=True)
class Verdict:
    """One figure beside its limit. ``aim`` is what is striven for, where that is more than the limit."""

    what: str
    value: float
    limit: float
    at_least: bool
    aim: float | None = None

    @property
    def good(self) -> bool:
        """Whether the limit is kept; what could not be measured is not."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def words(self) -> str:
        """The figure, its limit, and its aim if it falls short of that alone."""
        sign = ">=" if self.at_least else "<="
        end = "ok" if self.good else "MISSED"
        if self.good and self.aim is not None and self.value < self.aim:
            end = f"ok, short of the aim {self.aim:g}"
        return f"{self.what}: {self.value:.3g} ({sign} {self.limit:g}) {end}"


def verdicts(of: Mapping[str, Summary]) -> list[Verdict]:
    """Judge what was measured: ``of`` has the medians by peer; who is not in it is not compared with."""
    found = []
    if ours := of.get("inboxd"):
        if celery := of.get("celery"):
            found += [
                Verdict("throughput, times plain Celery", ratio(ours.rate, celery.rate), 12, at_least=True, aim=20),
                Verdict("processor time, share of plain Celery's", ratio(ours.all_cpu, celery.all_cpu), 0.1, at_least=False),
            ]
        if bullmq := of.get("bullmq"):
            found.append(
                Verdict("throughput, times chokidar + BullMQ", ratio(ours.rate, bullmq.rate), 1.8, at_least=True, aim=2.5)
            )
        found += [
            Verdict("lone file, p50 in ms", ours.lone_p50, 8, at_least=False),
            Verdict("lone file, p99 in ms", ours.lone_p99, 30, at_least=False),
            Verdict("lone file beside other traffic, p99 in ms", ours.beside_p99, 100, at_least=False),
            Verdict("files lost", ours.lost, 0, at_least=False),
        ]
    if settled := of.get("inboxd-settle"):
        found += [
            Verdict("lone file at the default settle, p50 in ms", settled.lone_p50, SETTLE_MS + 8, at_least=False),
            Verdict("lone file at the default settle, p99 in ms", settled.lone_p99, SETTLE_MS + 30, at_least=False),
        ]
    return found
