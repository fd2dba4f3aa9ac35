"""Find out whether inboxes are paused or stuck, from Redis and the folders; a change counts once it has held for some time."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import redis

from inboxd.broker.heartbeat import InboxReport, read_heartbeat
from inboxd.broker.inbox_outages import read_inbox_outages
from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.syscalls import Disk
from inboxd.messaging.celery_app import SWEEP_MISSED, SWEEP_STALE
from inboxd.monitoring.file_counts import count_active
from inboxd.monitoring.stuck import find_stuck

PAUSED_SECONDS = 15.0
"""How long a pause lasts before it counts: a restart of Redis or of a mount takes less."""
BROKER_SECONDS = 45.0
"""How long Redis does not answer before all inboxes count as paused."""
RECOVERED_SECONDS = 60.0
"""How long a pause or a stuck file is over before that counts: after Redis has lost its data, none is recorded there."""
COUNT_SECONDS = 60.0
"""Minimum interval between two searches for stuck files: these wait for half an hour at least."""
COUNT_INTERVAL_FACTOR = 20.0
MOUNT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Condition:
    """Why an inbox is paused, and which of its files is stuck; "" for neither, None if that is unknown."""

    paused: str | None
    stuck: str | None


@dataclass(slots=True)
class Steady:
    """A text that becomes empty, or no longer empty, only after it has been so for some time (monotonic seconds)."""

    value: str | None = None
    since: float | None = None
    was_set: bool = False

    def update(self, value: str | None, now: float, hold_seconds: float) -> str | None:
        """Return the text after an observation; None as long as it is unknown."""
        if value is None:
            self.since = None
            return None
        if self.value is not None and bool(value) == bool(self.value):
            self.value, self.since = value, None
            return value
        if self.since is None or self.was_set != bool(value):
            self.since, self.was_set = now, bool(value)
        if now - self.since >= hold_seconds:
            self.value, self.since = value, None
        return self.value


@dataclass(slots=True)
class _Inbox:
    """What is known of one inbox: its pause, its stuck file, and when its files are counted again."""

    paused: Steady = field(default_factory=Steady)
    stuck: Steady = field(default_factory=Steady)
    seen_stuck: str | None = None
    count_at: float = 0.0
    problem: str = ""


class Conditions:
    """Observes all inboxes. ``problems`` are the folders that this process can't read, by inbox."""

    def __init__(self, disk: Disk, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._disk = disk
        self._client = client
        self._clock = clock
        self._inboxes: dict[str, _Inbox] = {}
        self._broker_down_since: float | None = None

    @property
    def problems(self) -> dict[str, str]:
        """Why the files of an inbox can't be counted, by inbox."""
        return {name: known.problem for name, known in self._inboxes.items() if known.problem}

    def look(self, settings: Settings, names: Iterable[str]) -> dict[str, Condition]:
        """Return the condition of these inboxes."""
        chosen = list(names)
        reports: Mapping[str, InboxReport] = {}
        try:
            paused, reports = self._read_redis(settings, chosen)
            self._broker_down_since = None
        except BrokerUnavailable as error:
            paused = dict.fromkeys(chosen, self._describe_broker(settings, error))
        return {name: self._look_at(settings, settings.inbox[name], paused.get(name, ""), reports.get(name)) for name in chosen}

    def _read_redis(self, settings: Settings, names: list[str]) -> tuple[dict[str, str | None], Mapping[str, InboxReport]]:
        """Return why each inbox is paused, and the watcher's reports. Raises BrokerUnavailable."""
        try:
            heartbeat = read_heartbeat(self._client, settings.host)
        except (ValueError, KeyError, TypeError):  # another version wrote it
            heartbeat = None
        reports = heartbeat.inboxes if heartbeat else {}
        paused: dict[str, str | None] = {}
        for sweep in (SWEEP_MISSED, SWEEP_STALE, ""):
            paused.update(read_inbox_outages(self._client, settings.host, names, sweep))
        for name, report in reports.items():
            if why := report.outage or next(iter(report.problems), None):
                paused.setdefault(name, why)
        return paused, reports

    def _describe_broker(self, settings: Settings, error: BrokerUnavailable) -> str | None:
        """Return why all inboxes are paused; None for an outage that is too short."""
        now = self._clock()
        if self._broker_down_since is None:
            self._broker_down_since = now
        is_long = now - self._broker_down_since >= min(BROKER_SECONDS, settings.notify.every)
        return f"the broker is unavailable: {error}" if is_long else None

    def _look_at(self, settings: Settings, inbox: Inbox, paused: str | None, report: InboxReport | None) -> Condition:
        known, now = self._inboxes.setdefault(inbox.name, _Inbox()), self._clock()
        if now >= known.count_at:
            self._search_stuck(settings, inbox, known, report)
        pause_seconds = min(PAUSED_SECONDS, settings.notify.every)
        clear_seconds = max(2 * settings.sweep.stale_seconds, min(RECOVERED_SECONDS, settings.notify.every))
        stuck = known.seen_stuck if not paused else None  # a pause explains it
        return Condition(
            known.paused.update(paused, now, pause_seconds if paused else clear_seconds),
            known.stuck.update(stuck, now, 0.0 if stuck else clear_seconds),
        )

    def _search_stuck(self, settings: Settings, inbox: Inbox, known: _Inbox, report: InboxReport | None) -> None:
        slots = settings.work.concurrency or multiprocessing.cpu_count()
        started = self._clock()
        try:
            counts = run_on_mounts(self._disk, inbox.root, lambda: count_active(self._disk, inbox), MOUNT_SECONDS)
            known.seen_stuck, known.problem = next(find_stuck(inbox, counts, report, slots), ""), ""
        except (FolderUnavailable, OSError) as error:
            known.seen_stuck, known.problem = None, str(error)
        now = self._clock()
        known.count_at = now + max(min(COUNT_SECONDS, settings.notify.every), (now - started) * COUNT_INTERVAL_FACTOR)
