"""What `inboxd status` knows: gathered from the folders, the broker, the workers and the watcher's heartbeat."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import redis
from kombu.exceptions import OperationalError

from inboxd.broker.connection import broker_url, make_client, translate_redis_errors, without_password
from inboxd.broker.counters import Counters, InboxCounts
from inboxd.broker.heartbeat import Heartbeat, InboxReport, read_heartbeat, seconds_since_sweep, sweep_deadline_seconds
from inboxd.broker.outages import read_outages
from inboxd.config.settings import Settings
from inboxd.console.ping import ping_broker
from inboxd.console.status.stuck import find_stuck
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.queues import QUARANTINE_KEY, WORK_QUEUE, files_queue, host_queue
from inboxd.monitoring.file_counts import FileCounts, count_files

WORKER_ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class InboxStatus:
    """One inbox: its counts, or the ``problem`` with its folders; how it is watched, and what was filed, None if unknown.

    ``unfiled`` is why nothing can be filed there; ``stuck`` has a sentence for a file that has been on its way for too long.
    """

    name: str
    counts: FileCounts | None
    problem: str = ""
    report: InboxReport | None = None
    totals: InboxCounts | None = None
    outage: str = ""
    stuck: tuple[str, ...] = ()

    @property
    def problem_or_outage(self) -> str:
        """What is wrong with its folders, as first known; "" for nothing."""
        return self.problem or self.outage or (self.report and self.report.outage) or ""


@dataclass(frozen=True, slots=True)
class Status:
    """One look at everything, at a time in unix seconds; docs/operations.md says what each figure means.

    ``broker_error`` is why Redis is of no use, "" when it is available, at ``broker``. ``seconds_since_sweep`` is None if the
    last sweep is too long ago to be known. ``quarantined`` messages wait for a person. ``unconsumed`` queues are taken by no
    worker, though some worker answers; ``removed_inboxes`` are watched, and not in the settings.
    """

    at: float
    inboxes: tuple[InboxStatus, ...]
    broker_error: str
    workers: int
    watcher: Heartbeat | None
    seconds_since_sweep: float | None = None
    is_sweep_overdue: bool = False
    quarantined: int = 0
    unconsumed: tuple[str, ...] = ()
    removed_inboxes: tuple[str, ...] = ()
    broker: str = ""

    def problems(self) -> list[str]:
        """Return what needs a person, a sentence each."""
        found = [f"{inbox.name}: {inbox.problem_or_outage}" for inbox in self.inboxes if inbox.problem_or_outage]
        if self.broker_error:
            return [*found, f"the broker is away, and no worker or watcher can be seen: {self.broker_error}"]
        if not self.workers:
            found.append("no worker answers: files are taken in, and not worked on")
        found += [f"no worker takes {what}" for what in self.unconsumed]
        if self.watcher is None:
            found.append("no watcher gives a sign of life: new files are not noticed")
        else:
            unknown = [inbox.name for inbox in self.inboxes if inbox.report is None]
            found += [f"{name}: the running watcher does not know it: tell it to reload (SIGHUP)" for name in unknown]
        found += [
            f"{name}: is watched, and not in the settings: tell the watcher to reload (SIGHUP)" for name in self.removed_inboxes
        ]
        if self.is_sweep_overdue:
            found.append("no sweep has run for too long: is beat running? What events and callbacks miss stays where it is")
        return [*found, *(sentence for inbox in self.inboxes for sentence in inbox.stuck)]


@dataclass(frozen=True, slots=True)
class _RedisState:
    """What Redis told."""

    workers: int = 0
    unconsumed: tuple[str, ...] = ()
    watcher: Heartbeat | None = None
    seconds_since_sweep: float | None = None
    is_sweep_overdue: bool = False
    quarantined: int = 0
    totals: Mapping[str, InboxCounts] = field(default_factory=dict)
    outages: Mapping[str, str] = field(default_factory=dict)

    def report(self, name: str) -> InboxReport | None:
        return self.watcher.inboxes.get(name) if self.watcher else None


def take_snapshot(settings: Settings, now: float) -> Status:
    """Look at everything once; takes a second or two, or four socket timeouts where Redis hangs.

    Raises SettingsError for a redis.url that can't be read.
    """
    known, away = _RedisState(), ping_broker(settings).error
    if not away:
        try:
            known = _read_redis(settings, now)
        except BrokerUnavailable as error:
            away = str(error)
    inboxes = tuple(_inspect_inbox(settings, name, known) for name in settings.inbox)
    gone = tuple(name for name in (known.watcher.inboxes if known.watcher else ()) if name not in settings.inbox)
    return Status(
        now, inboxes, away, known.workers, known.watcher, known.seconds_since_sweep, known.is_sweep_overdue,
        known.quarantined, known.unconsumed, gone, without_password(broker_url(settings)),
    )  # fmt: skip


def _read_redis(settings: Settings, now: float) -> _RedisState:
    """Raise BrokerAway if Redis does not tell."""
    taken = _queues_by_worker(settings)
    with make_client(settings) as client:
        watcher, swept = _read_heartbeat(client, settings.host), seconds_since_sweep(client, settings)
        with translate_redis_errors():
            # sweeps that wait for a worker: beat is there, and all workers are busy
            asked_for, set_aside = client.llen(host_queue(settings.host)), client.llen(QUARANTINE_KEY)
        long_up = watcher is not None and now - watcher.started_at > 2 * sweep_deadline_seconds(settings)
        unswept = swept is None and bool(taken) and long_up and not asked_for
        totals = Counters(client, settings.host).read(settings.inbox)
        unfiled = read_outages(client, settings.host, settings.inbox)
    deserted = tuple(_find_unconsumed(settings, taken))
    return _RedisState(len(taken), deserted, watcher, swept, unswept, int(set_aside), totals, unfiled)


def _inspect_inbox(settings: Settings, name: str, known: _RedisState) -> InboxStatus:
    inbox, watched, totals = settings.inbox[name], known.report(name), known.totals.get(name)
    unfiled = known.outages.get(name, "")
    try:
        counts = count_files(Disk(), inbox)
    except (FolderUnavailable, OSError) as error:
        return InboxStatus(name, None, str(error), watched, totals, unfiled)
    slots = settings.work.concurrency or os.cpu_count() or 1
    late = tuple(find_stuck(inbox, counts, watched, slots)) if not unfiled else ()
    return InboxStatus(name, counts, "", watched, totals, unfiled, late)


def _queues_by_worker(settings: Settings) -> dict[str, set[str]]:
    """Return the workers that answer in time, with the queues that each takes from. Raises BrokerAway."""
    try:
        with make_app(settings) as app:
            answers = app.control.inspect(timeout=WORKER_ANSWER_SECONDS).active_queues() or {}
    except (OperationalError, redis.RedisError, OSError) as error:
        raise BrokerUnavailable(f"redis: {error}") from error
    return {worker: {taken["name"] for taken in queues or ()} for worker, queues in answers.items()}


def _find_unconsumed(settings: Settings, taken: Mapping[str, set[str]]) -> list[str]:
    """Return what waits for a worker that is not there, while others are; none where one is just being connected anew."""
    if not all(taken.values()):
        return []
    host = settings.host
    purposes = {
        WORK_QUEUE: f"small files (queue {WORK_QUEUE})",
        files_queue(host): f"large files (queue {files_queue(host)}): they are not worked on",
        host_queue(host): f"callbacks and sweeps (queue {host_queue(host)}): finished files are not filed away",
    }
    everything = set().union(*taken.values())
    return [what for name, what in purposes.items() if name not in everything] if taken else []


def _read_heartbeat(client: redis.Redis, host: str) -> Heartbeat | None:
    """Return what this host's watcher reports; None when it is silent, or of another version. Raises BrokerAway."""
    try:
        return read_heartbeat(client, host)
    except (ValueError, KeyError, TypeError):
        return None
