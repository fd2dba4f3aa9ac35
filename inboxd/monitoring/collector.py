"""The figures of this host for Prometheus: what is counted in Redis, what lies in the folders, who gives a sign of life.

Asked from a thread of the watcher, it shares nothing with the watcher's loop: it has a client of its own, and looks into the
folders seldom enough to take a twentieth of the time at most.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.counters import DONE, FAILED, LATENCY_BUCKETS, REFUSED, Counters, InboxCounts
from inboxd.broker.heartbeat import read_heartbeat, seconds_since_sweep
from inboxd.broker.outages import read_outages
from inboxd.config.settings import Inbox, Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.messaging.queues import QUARANTINE_KEY, UNACKED_KEY, WORK_QUEUE, files_queue, host_queue
from inboxd.monitoring.exposition import Kind, Metric, Sample, histogram
from inboxd.monitoring.file_counts import ActiveCounts, count_active

COUNT_SECONDS = 5.0
COUNT_SHARE = 20.0


@dataclass(frozen=True, slots=True)
class _RedisFigures:
    """What Redis told: counts by inbox, lengths by queue, messages that workers hold, and who gives a sign of life."""

    counts: Mapping[str, InboxCounts]
    queues: Mapping[str, int]
    unacked: int
    outages: frozenset[str]
    watcher: bool
    sweeps: bool


@dataclass(slots=True)
class _CachedCounts:
    """One inbox's last count (None: its folders were away), and when the next is due, by the monotonic clock."""

    moving: ActiveCounts | None
    due: float


class Collector:
    """The figures of one host."""

    def __init__(
        self, settings: Callable[[], Settings], client: redis.Redis, disk: Disk, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask ``settings`` each time for those in force: a reload brings others."""
        self._settings = settings
        self._client = client
        self._disk = disk
        self._clock = clock
        self._cached: dict[str, _CachedCounts] = {}

    def metrics(self) -> list[Metric]:
        """Return all metrics; without samples where Redis or a folder is away. Ends within a few socket timeouts."""
        settings = self._settings()
        try:
            known = self._read_redis(settings)
        except BrokerUnavailable:
            known = None
        moving = {name: self._count(inbox) for name, inbox in settings.inbox.items()}
        return [*_folder_metrics(moving, known), *_redis_metrics(known)]

    def _read_redis(self, settings: Settings) -> _RedisFigures:
        host, inboxes = settings.host, settings.inbox
        queues = (WORK_QUEUE, files_queue(host), host_queue(host), QUARANTINE_KEY)
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(queue)
            pipe.hlen(UNACKED_KEY)
            *lengths, unacked = map(int, pipe.execute())
        try:
            watcher = read_heartbeat(self._client, host)
        except (ValueError, KeyError, TypeError):  # of another version
            watcher = None
        watched = watcher.inboxes if watcher else {}
        troubled = {*read_outages(self._client, host, inboxes), *(name for name, seen in watched.items() if seen.outage)}
        swept = seconds_since_sweep(self._client, settings) is not None
        lengths_by_queue = dict(zip(queues, lengths, strict=True))
        return _RedisFigures(
            Counters(self._client, host).read(inboxes),
            lengths_by_queue,
            unacked,
            frozenset(troubled),
            watcher is not None,
            swept,
        )

    def _count(self, inbox: Inbox) -> ActiveCounts | None:
        """Count an inbox's files, or return the last count while it is fresh enough for what it has cost."""
        begun = self._clock()
        kept = self._cached.get(inbox.name)
        if kept and begun < kept.due:
            return kept.moving
        try:
            moving = count_active(self._disk, inbox)
        except (FolderUnavailable, OSError):
            moving = None
        now = self._clock()
        self._cached[inbox.name] = _CachedCounts(moving, now + max(COUNT_SECONDS, (now - begun) * COUNT_SHARE))
        return moving


def _folder_metrics(moving: Mapping[str, ActiveCounts | None], known: _RedisFigures | None) -> Iterator[Metric]:
    def gauge(name: str, help_: str, value: Callable[[ActiveCounts], float | None]) -> Metric:
        found = {inbox: value(counted) for inbox, counted in moving.items() if counted}
        return Metric(
            name, Kind.GAUGE, help_, tuple(Sample(v, {"inbox": inbox}) for inbox, v in found.items() if v is not None)
        )

    yield gauge("inboxd_waiting_files", "Files in inbox/ that are to be taken.", lambda counted: counted.waiting)
    yield gauge("inboxd_in_flight_files", "Files in claimed/.", lambda counted: counted.in_flight)
    yield gauge(
        "inboxd_oldest_waiting_seconds",
        "Since the longest waiting file in inbox/ has changed; 0 if none waits.",
        lambda counted: counted.oldest_waiting_seconds or 0.0,
    )
    yield gauge(
        "inboxd_oldest_claimed_seconds",
        "Since the oldest parcel in claimed/ was made; 0 if there is none.",
        lambda counted: counted.oldest_claimed_seconds or 0.0,
    )
    troubled = known.outages if known else frozenset()
    yield Metric(
        "inboxd_inbox_trouble",
        Kind.GAUGE,
        "Whether the inbox's folders are away, full or not permitted.",
        tuple(Sample(counted is None or name in troubled, {"inbox": name}) for name, counted in moving.items()),
    )


def _redis_metrics(known: _RedisFigures | None) -> Iterator[Metric]:
    counts = known.counts if known else {}
    yield Metric("inboxd_broker_up", Kind.GAUGE, "Whether Redis answers.", (Sample(known is not None, {}),))
    yield _flag("inboxd_watcher_up", "Whether the watcher's loop has given a sign of life.", known.watcher if known else None)
    yield _flag(
        "inboxd_sweeps_up", "Whether a sweep has run as lately as beat should ask for one.", known.sweeps if known else None
    )
    yield Metric(
        "inboxd_files_total", Kind.COUNTER, "Files by outcome; refused ones were not worked on.",
        tuple(
            Sample(count.outcomes.get(outcome, 0), {"inbox": inbox, "outcome": outcome})
            for inbox, count in counts.items()
            for outcome in (DONE, FAILED, REFUSED)
        ),
    )  # fmt: skip
    yield Metric(
        "inboxd_found_total", Kind.COUNTER, "Files claimed, by what has found them; sweep: no event had announced them.",
        tuple(
            Sample(number, {"inbox": inbox, "found_by": found_by})
            for inbox, count in counts.items()
            for found_by, number in sorted({"event": 0, "sweep": 0, **count.found_by}.items())
        ),
    )  # fmt: skip
    yield Metric(
        "inboxd_events_lost_total", Kind.COUNTER, "Times that the system has dropped file events.",
        tuple(Sample(count.events_lost, {"inbox": inbox}) for inbox, count in counts.items()),
    )  # fmt: skip
    yield Metric(
        "inboxd_latency_seconds", Kind.HISTOGRAM, "From the claim of a file that went well to done/.",
        tuple(
            sample
            for inbox, count in counts.items()
            for sample in histogram(LATENCY_BUCKETS, count.latency, count.latency_sum, {"inbox": inbox})
        ),
    )  # fmt: skip
    queues = known.queues if known else {}
    yield Metric(
        "inboxd_queue_messages", Kind.GAUGE, "Messages that wait in a queue; in inboxd.quarantine: set aside for a person.",
        tuple(Sample(length, {"queue": queue}) for queue, length in queues.items()),
    )  # fmt: skip
    held = (Sample(known.unacked, {}),) if known else ()
    yield Metric("inboxd_unacked_messages", Kind.GAUGE, "Messages that workers hold: worked on, or to be tried again.", held)


def _flag(name: str, help_: str, flag: bool | None) -> Metric:
    return Metric(name, Kind.GAUGE, help_, () if flag is None else (Sample(flag, {}),))
