"""Collect this host's Prometheus metrics: counters and queue lengths from Redis, files by folder, liveness of the programs.

The collector runs in a thread of the watcher and shares no state with the watcher's loop; it has a separate Redis client.
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
from inboxd.broker.inbox_outages import read_inbox_outages
from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.syscalls import Disk
from inboxd.messaging.queues import QUARANTINE_KEY, UNACKED_KEY, WORK_QUEUE, files_queue, host_queue
from inboxd.monitoring.file_counts import ActiveCounts, count_active

MOUNT_SECONDS = 2.0
"""Maximum time to count the files on a network or FUSE mount."""
COUNT_SECONDS = 5.0
"""Minimum interval between two counts of an inbox, in seconds."""
COUNT_INTERVAL_FACTOR = 20.0
"""Minimum interval between two counts, as a multiple of a count's duration: counting takes at most a twentieth of the time."""


@dataclass(frozen=True, slots=True)
class _RedisState:
    """Values read from Redis: counts by inbox, lengths by queue, unacknowledged messages, inboxes in outage, liveness."""

    counts: Mapping[str, InboxCounts]
    queues: Mapping[str, int]
    unacked: int
    outages: frozenset[str]
    is_watcher_up: bool
    are_sweeps_up: bool


@dataclass(slots=True)
class _CachedCounts:
    """An inbox's last counts (None: its folders were unavailable), and the monotonic time when the next count is due."""

    counts: ActiveCounts | None
    due_at: float


class Collector(PrometheusCollector):
    """A Prometheus collector of one host's metrics."""

    def __init__(
        self, settings: Callable[[], Settings], client: redis.Redis, disk: Disk, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a collector; ``settings`` returns the settings in force, which a reload replaces."""
        self._settings = settings
        self._client = client
        self._disk = disk
        self._clock = clock
        self._cached: dict[str, _CachedCounts] = {}

    def collect(self) -> Iterable[Metric]:
        """Return all metrics, without samples for an unavailable Redis or folder; takes a few socket timeouts at most."""
        settings = self._settings()
        try:
            state = self._read_redis(settings)
        except BrokerUnavailable:
            state = None
        active = {name: self._count(inbox) for name, inbox in settings.inbox.items()}
        return [*_folder_metrics(active, state), *_redis_metrics(state)]

    def _read_redis(self, settings: Settings) -> _RedisState:
        host, inboxes = settings.host, settings.inbox
        queues = (WORK_QUEUE, files_queue(host), host_queue(host), QUARANTINE_KEY)
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(queue)
            pipe.hlen(UNACKED_KEY)
            *lengths, unacked = map(int, pipe.execute())
        try:
            heartbeat = read_heartbeat(self._client, host)
        except (ValueError, KeyError, TypeError):  # written by another version
            heartbeat = None
        reports = heartbeat.inboxes if heartbeat else {}
        outages = {
            *read_inbox_outages(self._client, host, inboxes),
            *(name for name, report in reports.items() if report.outage or report.problems),
        }
        return _RedisState(
            Counters(self._client, host).read(inboxes),
            dict(zip(queues, lengths, strict=True)),
            unacked,
            frozenset(outages),
            is_watcher_up=heartbeat is not None,
            are_sweeps_up=seconds_since_sweep(self._client, settings) is not None,
        )

    def _count(self, inbox: Inbox) -> ActiveCounts | None:
        """Return an inbox's counts: cached ones until the next count is due. None if its folders are unavailable."""
        started = self._clock()
        cached = self._cached.get(inbox.name)
        if cached and started < cached.due_at:
            return cached.counts
        try:
            counts = run_on_mounts(self._disk, inbox.root, lambda: count_active(self._disk, inbox), MOUNT_SECONDS)
        except (FolderUnavailable, OSError):
            counts = None
        now = self._clock()
        self._cached[inbox.name] = _CachedCounts(counts, now + max(COUNT_SECONDS, (now - started) * COUNT_INTERVAL_FACTOR))
        return counts


def _folder_metrics(active: Mapping[str, ActiveCounts | None], state: _RedisState | None) -> Iterator[Metric]:
    def gauge(name: str, description: str, value: Callable[[ActiveCounts], float]) -> Metric:
        return _gauge(name, description, "inbox", {inbox: value(counts) for inbox, counts in active.items() if counts})

    yield gauge("inboxd_waiting_files", "Files in inbox/ that match the rules of the inbox.", lambda counts: counts.waiting)
    yield gauge("inboxd_in_flight_files", "Files in claimed/.", lambda counts: counts.in_flight)
    yield gauge(
        "inboxd_oldest_waiting_seconds",
        "Time since the last change of the file that waits longest in inbox/; 0 if none waits.",
        lambda counts: counts.oldest_waiting_seconds or 0.0,
    )
    yield gauge(
        "inboxd_oldest_claimed_seconds",
        "Age of the oldest parcel in claimed/; 0 if there is none.",
        lambda counts: counts.oldest_claimed_seconds or 0.0,
    )
    yield gauge("inboxd_ignored_files", "Files in inbox/ that a rule ignores.", lambda counts: counts.ignored.files)
    yield gauge(
        "inboxd_oldest_ignored_seconds",
        "Time since the last change of the oldest ignored file; 0 if there is none.",
        lambda counts: counts.ignored.oldest_seconds or 0.0,
    )
    yield gauge("inboxd_stray_entries", "Entries beside inbox/, or no parcels in claimed/.", lambda counts: counts.stray.files)
    outages = state.outages if state else frozenset()
    yield _gauge(
        "inboxd_inbox_outage",
        "Whether the inbox's folders are unavailable, full or inaccessible.",
        "inbox",
        {name: counts is None or name in outages for name, counts in active.items()},
    )


def _redis_metrics(state: _RedisState | None) -> Iterator[Metric]:
    yield _flag("inboxd_broker_up", "Whether Redis answers.", state is not None)
    yield _flag("inboxd_watcher_up", "Whether the watcher sends heartbeats.", state.is_watcher_up if state else None)
    sweeps = state.are_sweeps_up if state else None
    yield _flag("inboxd_sweeps_up", "Whether a sweep has run within the time that beat's schedule allows.", sweeps)
    yield from _count_metrics(state.counts if state else {})
    queues = state.queues if state else {}
    yield _gauge("inboxd_queue_messages", "Messages that wait in a queue, or in inboxd.quarantine.", "queue", queues)
    unacked = state.unacked if state else None
    yield GaugeMetricFamily("inboxd_unacked_messages", "Messages that workers process, or keep for a retry.", unacked)


def _count_metrics(counts: Mapping[str, InboxCounts]) -> Iterator[Metric]:
    files = CounterMetricFamily(
        "inboxd_files_total", "Files by outcome; no handler was called for refused ones.", labels=["inbox", "outcome"]
    )
    found = CounterMetricFamily(
        "inboxd_found_total", "Claimed files by what found them: the watcher's reason, or sweep: missed by the watcher.",
        labels=["inbox", "found_by"],
    )  # fmt: skip
    lost = CounterMetricFamily(
        "inboxd_events_lost_total", "Times that the kernel dropped file events.", labels=["inbox"]
    )  # fmt: skip
    missing = CounterMetricFamily(
        "inboxd_missing_files_total", "Files that were gone from claimed/ when they should have been filed.", labels=["inbox"]
    )  # fmt: skip
    latency = HistogramMetricFamily(
        "inboxd_latency_seconds", "Time from the claim of a file to its move into done/.", labels=["inbox"]
    )  # fmt: skip
    bounds = [*(f"{bound:g}" for bound in LATENCY_BUCKETS), "+Inf"]
    for inbox, count in counts.items():
        for outcome in (DONE, FAILED, REFUSED):
            files.add_metric([inbox, outcome], count.outcomes.get(outcome, 0))
        for found_by, number in sorted({"event": 0, "sweep": 0, **count.found_by}.items()):
            found.add_metric([inbox, found_by], number)
        lost.add_metric([inbox], count.events_lost)
        missing.add_metric([inbox], count.missing)
        latency.add_metric([inbox], [*zip(bounds, accumulate(count.latency), strict=True)], count.latency_sum)
    yield from (files, found, lost, missing, latency)


def _gauge(name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=[label])
    for label_value, value in values.items():
        family.add_metric([label_value], value)
    return family


def _flag(name: str, description: str, flag: bool | None) -> Metric:
    return GaugeMetricFamily(name, description, None if flag is None else float(flag))
