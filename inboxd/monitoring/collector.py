"""The figures of this host for Prometheus: what is counted in Redis, what lies in the folders, who gives a sign of life.

Asked from a thread of the watcher, it shares nothing with the watcher's loop: it has a client of its own, and looks into the
folders seldom enough to take a twentieth of the time at most.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import redis
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.counters import DONE, FAILED, LATENCY_BUCKETS, REFUSED, Counters, InboxCounts
from inboxd.broker.heartbeat import read_heartbeat, seconds_since_sweep
from inboxd.broker.outages import read_outages
from inboxd.config.settings import Inbox, Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.messaging.queues import QUARANTINE_KEY, UNACKED_KEY, WORK_QUEUE, files_queue, host_queue
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


class Collector(PrometheusCollector):
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

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; without samples where Redis or a folder is away. Ends within a few socket timeouts."""
        settings = self._settings()
        try:
            known = self._read_redis(settings)
        except BrokerUnavailable:
            known = None
        active = {name: self._count(inbox) for name, inbox in settings.inbox.items()}
        return [*_folder_metrics(active, known), *_redis_metrics(known)]

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


def _folder_metrics(active: Mapping[str, ActiveCounts | None], known: _RedisFigures | None) -> Iterator[Metric]:
    def gauge(name: str, description: str, value: Callable[[ActiveCounts], float]) -> Metric:
        found = {inbox: value(counts) for inbox, counts in active.items() if counts}
        return _gauge(name, description, "inbox", found)

    yield gauge("inboxd_waiting_files", "Files in inbox/ that are to be taken.", lambda counts: counts.waiting)
    yield gauge("inboxd_in_flight_files", "Files in claimed/.", lambda counts: counts.in_flight)
    yield gauge(
        "inboxd_oldest_waiting_seconds",
        "Since the longest waiting file in inbox/ has changed; 0 if none waits.",
        lambda counts: counts.oldest_waiting_seconds or 0.0,
    )
    yield gauge(
        "inboxd_oldest_claimed_seconds",
        "Since the oldest parcel in claimed/ was made; 0 if there is none.",
        lambda counts: counts.oldest_claimed_seconds or 0.0,
    )
    outages = known.outages if known else frozenset()
    yield _gauge(
        "inboxd_inbox_outage",
        "Whether the inbox's folders are unavailable, full or not permitted.",
        "inbox",
        {name: counts is None or name in outages for name, counts in active.items()},
    )


def _redis_metrics(known: _RedisFigures | None) -> Iterator[Metric]:
    yield _flag("inboxd_broker_up", "Whether Redis answers.", known is not None)
    yield _flag("inboxd_watcher_up", "Whether the watcher's loop has sent a heartbeat.", known.watcher if known else None)
    sweeps = known.sweeps if known else None
    yield _flag("inboxd_sweeps_up", "Whether a sweep has run within the time that beat's schedule allows.", sweeps)
    yield from _count_metrics(known.counts if known else {})
    yield _gauge(
        "inboxd_queue_messages",
        "Messages that wait in a queue; in inboxd.quarantine: for a person to look at.",
        "queue",
        known.queues if known else {},
    )
    unacked = known.unacked if known else None
    yield GaugeMetricFamily("inboxd_unacked_messages", "Messages that workers hold: worked on, or to be tried again.", unacked)


def _count_metrics(counts: Mapping[str, InboxCounts]) -> Iterator[Metric]:
    files = CounterMetricFamily(
        "inboxd_files_total", "Files by outcome; refused ones were not worked on.", labels=["inbox", "outcome"]
    )
    found = CounterMetricFamily(
        "inboxd_found_total", "Files claimed, by what has found them; sweep: no event had announced them.",
        labels=["inbox", "found_by"],
    )  # fmt: skip
    lost = CounterMetricFamily(
        "inboxd_events_lost_total", "Times that the system has dropped file events.", labels=["inbox"]
    )  # fmt: skip
    latency = HistogramMetricFamily(
        "inboxd_latency_seconds", "From the claim of a file that went well to done/.", labels=["inbox"]
    )  # fmt: skip
    bounds = [*(f"{bound:g}" for bound in LATENCY_BUCKETS), "+Inf"]
    for inbox, count in counts.items():
        for outcome in (DONE, FAILED, REFUSED):
            files.add_metric([inbox, outcome], count.outcomes.get(outcome, 0))
        for found_by, number in sorted({"event": 0, "sweep": 0, **count.found_by}.items()):
            found.add_metric([inbox, found_by], number)
        lost.add_metric([inbox], count.events_lost)
        latency.add_metric([inbox], [*zip(bounds, accumulate(count.latency), strict=True)], count.latency_sum)
    yield from (files, found, lost, latency)


def _gauge(name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=[label])
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], value)
    return family


def _flag(name: str, description: str, flag: bool | None) -> Metric:
    return GaugeMetricFamily(name, description, None if flag is None else float(flag))
