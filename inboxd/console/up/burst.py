"""Decide which lines a terminal shows when more files end in a second than a person can read. Pure."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

SHOWN_PER_SECOND = 20
"""Files that may end within a second before their lines give way to a live bar: more can't be read."""
FAILURES_PER_SECOND = 3
OTHERS_PER_SECOND = 10
"""Failures, and retries, warnings and errors, that are shown in each second of a burst."""
WINDOW_SECONDS = 1.0


class Kind(StrEnum):
    """What a line tells."""

    DONE = "done"
    FAILED = "failed"
    OTHER = "other"


@dataclass(slots=True)
class Burst:
    """Files that ended since ``began_at``; ``ended_at`` is the time of the last one."""

    began_at: float
    ended_at: float
    done: int = 0
    failed: int = 0

    @property
    def files_per_second(self) -> float:
        """The rate since the beginning."""
        return (self.done + self.failed) / max(self.ended_at - self.began_at, 0.1)

    def summarize(self) -> str:
        """Return the sentence that is shown when the burst is over."""
        seconds = max(self.ended_at - self.began_at, 0.1)
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.done:,} done{failed} in {seconds:.1f} s ({self.files_per_second:,.0f} files/s)"


class Pace:
    """Counts what is shown and held back in each second, and whether a burst is on; times are of any one clock."""

    def __init__(self) -> None:
        self.burst: Burst | None = None
        self._window_began_at = float("-inf")
        self._seen: Counter[Kind] = Counter()
        self._shown: Counter[Kind] = Counter()

    def admit(self, kind: Kind, now: float) -> bool:
        """Count one line; return whether it is shown. ``next_window`` must be called first if it is due."""
        self._seen[kind] += 1
        ended = self._seen[Kind.DONE] + self._seen[Kind.FAILED]
        if self.burst is None and ended > SHOWN_PER_SECOND:
            self.burst = Burst(self._window_began_at, now, self._seen[Kind.DONE], self._seen[Kind.FAILED])
        elif self.burst is not None and kind is not Kind.OTHER:
            self.burst.ended_at = now
            self.burst.done += kind is Kind.DONE
            self.burst.failed += kind is Kind.FAILED
        is_shown = self.burst is None or self._shown[kind] < _limit(kind)
        self._shown[kind] += is_shown
        return is_shown

    def count_done(self, count: int, now: float) -> bool:
        """Count done files during a burst, whose lines are not shown; return False if none is on."""
        if self.burst is None or count == 0:
            return self.burst is not None
        self._seen[Kind.DONE] += count
        self.burst.done += count
        self.burst.ended_at = now
        return True

    def is_window_over(self, now: float) -> bool:
        """Return whether ``next_window`` is due."""
        return now - self._window_began_at >= WINDOW_SECONDS

    def next_window(self, now: float) -> list[str]:
        """Begin a new second; return sentences about what was held back, and about the burst if it is over."""
        sentences = [
            f"… and {held:,} more {name}"
            for kind, name in ((Kind.FAILED, "failed"), (Kind.OTHER, "warnings and retries"))
            if (held := self._seen[kind] - self._shown[kind])
        ]
        ended = self._seen[Kind.DONE] + self._seen[Kind.FAILED]
        if self.burst is not None and ended <= SHOWN_PER_SECOND:
            sentences.append(self.burst.summarize())
            self.burst = None
        self._window_began_at = now
        self._seen.clear()
        self._shown.clear()
        return sentences

    def end(self) -> list[str]:
        """Return the last sentences."""
        return [*self.next_window(self._window_began_at), *([self.burst.summarize()] if self.burst else [])]


def _limit(kind: Kind) -> int:
    return {Kind.DONE: 0, Kind.FAILED: FAILURES_PER_SECOND, Kind.OTHER: OTHERS_PER_SECOND}[kind]


def describe_progress(burst: Burst, in_flight: int, waiting: int, width: int) -> str:
    """Return the live bar of a burst: done, failed, in flight, waiting, rate, time left; what has no room is left out."""
    ended, left = burst.done + burst.failed, in_flight + waiting
    rate = burst.files_per_second
    text = f"{burst.done:,} done"
    parts = [
        f", {burst.failed:,} failed" if burst.failed else "",
        f", {in_flight:,} in flight",
        f", {waiting:,} waiting",
        f"  {rate:,.0f}/s",
        f"  {_format_left(left / rate)} left" if rate and left else "",
    ]
    for part in parts:
        text += part if len(text) + len(part) <= width else ""
    cells = min(width - len(text) - 2, 40)
    return f"{text}  {_bar(ended / max(ended + left, 1), cells)}" if cells >= 10 else text  # noqa: PLR2004 - a readable bar


def _bar(share: float, cells: int) -> str:
    full = int(share * cells)
    return "━" * full + "─" * (cells - full)


def _format_left(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"  # noqa: PLR2004 - an hour
