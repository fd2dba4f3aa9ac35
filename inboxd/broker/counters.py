"""Statistics in Redis: files by outcome and by what found them, latencies, lost events.

A program collects counts in a Tally and writes them from time to time, in one round trip. No algorithm depends on them: they
may be lost (FLUSHALL).
"""

import re
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import DECODE_ERRORS, discard, finite_number

KEY = "inboxd:counts:"
"""Key prefix, followed by host:inbox: all counts since the dataset was created."""
DAY_KEY = "inboxd:day:"
"""Key prefix, followed by host:inbox:date: outcomes of one day in this host's time zone."""

EXPIRES_SECONDS = 90 * 86_400
DAY_EXPIRES_SECONDS = 3 * 86_400

HOUR_SECONDS = 3600
DONE, FAILED, REFUSED = "done", "failed", "refused"
LATENCY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the histogram's buckets, in seconds; an additional last bucket counts longer times."""

_OUTCOME, _FOUND, _LATENCY = "outcome:", "found:", "latency:"
_HOUR = "hour:"
"""Prefix of a day's fields, followed by the hour (Unix time / 3600) and the outcome: what was filed in that hour."""
_SUM, _LOST, _MISSING = "latency_sum", "events_lost", "missing"


_HOUR_FIELD = re.compile(rb"hour:([0-9]{1,9}):([a-z]+)")


class Tally:
    """Counts that are not written yet, by (inbox, field). Not thread-safe."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], float] = defaultdict(float)

    def count_filed(self, inbox: str, outcome: str, seconds: float | None = None, files: int = 1) -> None:
        """Count filed files. ``seconds`` is the time from claim to filing of one file; None leaves the latencies unchanged."""
        if files:
            self.counts[inbox, _OUTCOME + outcome] += files
        if seconds is not None:
            self.counts[inbox, f"{_LATENCY}{bisect_left(LATENCY_BUCKETS, seconds)}"] += 1
            self.counts[inbox, _SUM] += seconds

    def count_found(self, inbox: str, found_by: str, files: int) -> None:
        """Count claimed files, by what found them: the reason of the watcher's turn, or the sweep for missed files."""
        self.counts[inbox, _FOUND + found_by] += files

    def count_lost_events(self, inbox: str) -> None:
        """Count one overflow of the kernel's event queue."""
        self.counts[inbox, _LOST] += 1

    def count_missing(self, inbox: str, files: int) -> None:
        """Count claimed files that were gone when they should have been filed."""
        if files:
            self.counts[inbox, _MISSING] += files


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """One inbox's counts since the dataset was created, and today's outcomes.

    ``latency`` counts the files in each bucket of LATENCY_BUCKETS and in the unbounded last one; ``latency_sum`` is in seconds.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    today: Mapping[str, int] = field(default_factory=dict)
    found_by: Mapping[str, int] = field(default_factory=dict)
    latency: tuple[int, ...] = (0,) * (len(LATENCY_BUCKETS) + 1)
    latency_sum: float = 0.0
    events_lost: int = 0
    missing: int = 0


class Counters:
    """The counts of one host. Its methods raise BrokerUnavailable."""

    def __init__(self, client: redis.Redis, host: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._host = host
        self._clock = clock

    def write(self, tally: Tally) -> None:
        """Add a tally to the counts and clear it, in one round trip; a no-op if it is empty."""
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
                    hour = int(self._clock() // HOUR_SECONDS)
                    pipe.hincrby(self._day_key(inbox), f"{_HOUR}{hour}:{name.removeprefix(_OUTCOME)}", int(count))
            for inbox in dict.fromkeys(inbox for inbox, _ in tally.counts):
                pipe.expire(self._key(inbox), EXPIRES_SECONDS)
                pipe.expire(self._day_key(inbox), DAY_EXPIRES_SECONDS)
            pipe.execute()
        tally.counts.clear()

    def read(self, inboxes: Iterable[str]) -> dict[str, InboxCounts]:
        """Return the counts of these inboxes; an inbox without counts has zeros."""
        names = list(inboxes)
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(self._key(name))
                pipe.hgetall(self._day_key(name))
            rows = cast("list[dict[bytes, bytes]]", pipe.execute())
            return {name: self._to_counts(name, *rows[2 * index : 2 * index + 2]) for index, name in enumerate(names)}

    def read_hours(self, inboxes: Iterable[str]) -> dict[str, dict[int, dict[str, int]]]:
        """Return each inbox's outcomes by hour (Unix time / 3600), of today and yesterday; hours without files are missing."""
        keys = [(name, self._day_key(name, days_ago)) for name in inboxes for days_ago in (0, 1)]
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for _, key in keys:
                pipe.hgetall(key)
            rows = cast("list[dict[bytes, bytes]]", pipe.execute())
        hours: dict[str, dict[int, dict[str, int]]] = {name: {} for name, _ in keys}
        for (name, _), row in zip(keys, rows, strict=True):
            for field_name, value in row.items():
                if match := _HOUR_FIELD.fullmatch(field_name):
                    outcomes = hours[name].setdefault(int(match[1]), {})
                    with suppress(*DECODE_ERRORS):
                        outcomes[match[2].decode()] = int(finite_number(value))
        return hours

    def _to_counts(self, inbox: str, all_row: Mapping[bytes, bytes], day_row: Mapping[bytes, bytes]) -> InboxCounts:
        try:
            return _to_counts(all_row, day_row)
        except DECODE_ERRORS as error:
            discard(self._client, [self._key(inbox), self._day_key(inbox)], f"{type(error).__name__}: {error}")
            return InboxCounts()

    def _key(self, inbox: str) -> str:
        return f"{KEY}{self._host}:{inbox}"

    def _day_key(self, inbox: str, days_ago: int = 0) -> str:
        day = datetime.fromtimestamp(self._clock()).astimezone().date() - timedelta(days=days_ago)
        return f"{DAY_KEY}{self._host}:{inbox}:{day.isoformat()}"


def _to_counts(all_row: Mapping[bytes, bytes], day_row: Mapping[bytes, bytes]) -> InboxCounts:
    totals = {key.decode("utf-8", "replace"): finite_number(value) for key, value in all_row.items()}
    today = {key.decode("utf-8", "replace"): finite_number(value) for key, value in day_row.items()}
    latency = tuple(int(totals.get(f"{_LATENCY}{bucket}", 0)) for bucket in range(len(LATENCY_BUCKETS) + 1))
    return InboxCounts(
        _select_prefix(totals, _OUTCOME), _select_prefix(today, _OUTCOME), _select_prefix(totals, _FOUND), latency,
        totals.get(_SUM, 0.0), int(totals.get(_LOST, 0)), int(totals.get(_MISSING, 0)),
    )  # fmt: skip


def _select_prefix(counts: Mapping[str, float], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): int(count) for name, count in counts.items() if name.startswith(prefix)}
