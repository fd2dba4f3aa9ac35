"""Counting what happens: files by outcome and by what found them, how long they took, events lost. Hashes in Redis.

The counts may be lost with Redis (FLUSHALL); nothing depends on them. Who counts keeps a tally, and writes it from time to
time, in one round trip; what can't be written then is lost, or waits for the next time.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors

KEY = "inboxd:counts:"
"""… host:inbox: all counts since Redis has had its memory."""
DAY_KEY = "inboxd:day:"
"""… host:inbox:date: outcomes of one day, by this host's clock and calendar."""

EXPIRES_SECONDS = 90 * 86_400
DAY_EXPIRES_SECONDS = 3 * 86_400

DONE, FAILED, REFUSED = "done", "failed", "refused"
LATENCY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""The upper ends of the histogram's buckets; one more has what took longer."""

_OUTCOME, _FOUND, _LATENCY = "outcome:", "found:", "latency:"
_SUM, _LOST = "latency_sum", "events_lost"


class Tally:
    """Counts that are not written yet: by inbox and field. For one thread."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], float] = defaultdict(float)

    def count_filed(self, inbox: str, outcome: str, seconds: float | None = None, files: int = 1) -> None:
        """Count files that were filed; ``seconds`` is how long one took from its claim, if that is worth counting."""
        if files:
            self.counts[inbox, _OUTCOME + outcome] += files
        if seconds is not None:
            self.counts[inbox, f"{_LATENCY}{bisect_left(LATENCY_BUCKETS, seconds)}"] += 1
            self.counts[inbox, _SUM] += seconds

    def count_found(self, inbox: str, found_by: str, files: int) -> None:
        """Count files that were claimed."""
        self.counts[inbox, _FOUND + found_by] += files

    def count_lost_events(self, inbox: str) -> None:
        """Count one time that the system has dropped events."""
        self.counts[inbox, _LOST] += 1


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """One inbox's counts since Redis has had its memory, and the outcomes of today.

    ``latency`` has the files of each bucket of LATENCY_SECONDS, and last those that took longer; ``latency_sum`` is seconds.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    today: Mapping[str, int] = field(default_factory=dict)
    found_by: Mapping[str, int] = field(default_factory=dict)
    latency: tuple[int, ...] = (0,) * (len(LATENCY_BUCKETS) + 1)
    latency_sum: float = 0.0
    events_lost: int = 0


class Counters:
    """The counts of one host. Every method raises BrokerAway when Redis can't be asked."""

    def __init__(self, client: redis.Redis, host: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._host = host
        self._clock = clock

    def write(self, tally: Tally) -> None:
        """Add a tally, and empty it. One round trip; none if it is empty."""
        if not tally.counts:
            return
        with translate_redis_errors(), self._client.pipeline(transaction=True) as pipe:
            for (inbox, name), count in tally.counts.items():
                if name == _SUM:
                    pipe.hincrbyfloat(self._key(inbox), name, count)
                    continue
                pipe.hincrby(self._key(inbox), name, int(count))
                if name.startswith(_OUTCOME):
                    pipe.hincrby(self._day_key(inbox), name, int(count))
            for inbox in dict.fromkeys(inbox for inbox, _ in tally.counts):
                pipe.expire(self._key(inbox), EXPIRES_SECONDS)
                pipe.expire(self._day_key(inbox), DAY_EXPIRES_SECONDS)
            pipe.execute()
        tally.counts.clear()

    def read(self, inboxes: Iterable[str]) -> dict[str, InboxCounts]:
        """Return the counts of these inboxes; zeros where nothing was counted."""
        names = list(inboxes)
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(self._key(name))
                pipe.hgetall(self._day_key(name))
            rows = cast("list[dict[bytes, bytes]]", pipe.execute())
        return {name: _to_counts(rows[2 * at], rows[2 * at + 1]) for at, name in enumerate(names)}

    def _key(self, inbox: str) -> str:
        return f"{KEY}{self._host}:{inbox}"

    def _day_key(self, inbox: str) -> str:
        day = datetime.fromtimestamp(self._clock()).astimezone().date()
        return f"{DAY_KEY}{self._host}:{inbox}:{day.isoformat()}"


def _to_counts(row: Mapping[bytes, bytes], today: Mapping[bytes, bytes]) -> InboxCounts:
    numbers = {key.decode("utf-8", "replace"): float(value) for key, value in row.items()}
    days = {key.decode("utf-8", "replace"): float(value) for key, value in today.items()}
    latency = tuple(int(numbers.get(f"{_LATENCY}{bucket}", 0)) for bucket in range(len(LATENCY_BUCKETS) + 1))
    return InboxCounts(
        _with_prefix(numbers, _OUTCOME), _with_prefix(days, _OUTCOME), _with_prefix(numbers, _FOUND), latency,
        numbers.get(_SUM, 0.0), int(numbers.get(_LOST, 0)),
    )  # fmt: skip


def _with_prefix(numbers: Mapping[str, float], kind: str) -> dict[str, int]:
    return {name.removeprefix(kind): int(count) for name, count in numbers.items() if name.startswith(kind)}
