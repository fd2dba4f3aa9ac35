"""What `inboxd status` knows: gathered from the folders, the broker, the workers and the watcher's heartbeat."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import redis
from kombu.exceptions import OperationalError

from console.ping import ask
from spool import broker, census, heartbeat, queue
from spool.census import Census
from spool.counters import Counters, Counts
from spool.disk import Disk
from spool.errors import BrokerAway, FolderAway
from spool.heartbeat import Heartbeat, Watched
from spool.settings import Settings

WORKER_ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class InboxState:
    """One inbox: its counts, or the ``problem`` with its folders; how it is watched, and what was filed, None if unknown."""

    name: str
    counts: Census | None
    problem: str = ""
    watched: Watched | None = None
    totals: Counts | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """One look at everything, at a time in unix seconds. ``away`` says why the broker is of no use, "" when it is.

    ``swept`` is how many seconds ago beat's last sweep ran, None if that is too long ago to be known; ``unswept`` tells that
    there should have been one. ``set_aside`` messages are kept for a person to look at.
    """

    at: float
    inboxes: tuple[InboxState, ...]
    away: str
    workers: int
    watcher: Heartbeat | None
    swept: float | None = None
    unswept: bool = False
    set_aside: int = 0

    def troubles(self) -> list[str]:
        """Return what needs a person, a sentence each."""
        found = [f"{inbox.name}: {inbox.problem}" for inbox in self.inboxes if inbox.problem]
        if self.away:
            return [*found, f"the broker is away, and no worker or watcher can be seen: {self.away}"]
        if not self.workers:
            found.append("no worker answers: files are taken in, and not worked on")
        if self.watcher is None:
            found.append("no watcher gives a sign of life: new files are not noticed")
        if self.unswept:
            found.append("no sweep has run for too long: is beat running? What events and callbacks miss stays where it is")
        return [*found, *(f"{i.name}: {i.watched.trouble}" for i in self.inboxes if i.watched and i.watched.trouble)]


def gather(settings: Settings, now: float) -> Status:
    """Look at everything once; takes a second or two, or four socket timeouts where Redis hangs.

    Raises SettingsError for a redis.url that can't be read.
    """
    known, away = _Known(), ask(settings).why
    if not away:
        try:
            known = _ask(settings, now)
        except BrokerAway as error:
            away = str(error)
    watched = known.watcher.inboxes if known.watcher else {}
    inboxes = tuple(_look_into(settings, name, watched.get(name), known.totals.get(name)) for name in settings.inbox)
    return Status(now, inboxes, away, known.workers, known.watcher, known.swept, known.unswept, known.set_aside)


@dataclass(frozen=True, slots=True)
class _Known:
    """What Redis told."""

    workers: int = 0
    watcher: Heartbeat | None = None
    swept: float | None = None
    unswept: bool = False
    set_aside: int = 0
    totals: Mapping[str, Counts] = field(default_factory=dict)


def _ask(settings: Settings, now: float) -> _Known:
    """Raise BrokerAway if Redis does not tell."""
    workers = _count_workers(settings)
    with broker.client(settings) as client:
        watcher, swept = _last_heartbeat(client, settings.host), heartbeat.last_sweep(client, settings)
        with broker.weather():
            # sweeps that wait for a worker: beat is there, and all workers are busy
            asked_for, set_aside = client.llen(queue.host_queue(settings.host)), client.llen(queue.QUARANTINE_KEY)
        long_up = watcher is not None and now - watcher.since > 2 * heartbeat.sweeps_every(settings)
        unswept = swept is None and bool(workers) and long_up and not asked_for
        totals = Counters(client, settings.host).read(settings.inbox)
    return _Known(workers, watcher, swept, unswept, int(set_aside), totals)


def _look_into(settings: Settings, name: str, watched: Watched | None, totals: Counts | None) -> InboxState:
    try:
        return InboxState(name, census.count(Disk(), settings.inbox[name]), watched=watched, totals=totals)
    except (FolderAway, OSError) as error:
        return InboxState(name, None, str(error), watched, totals)


def _count_workers(settings: Settings) -> int:
    """Count the workers that answer in time. Raises BrokerAway."""
    try:
        with queue.make_app(settings) as app:
            return len(app.control.inspect(timeout=WORKER_ANSWER_SECONDS).ping() or {})
    except (OperationalError, redis.RedisError, OSError) as error:
        raise BrokerAway(f"redis: {error}") from error


def _last_heartbeat(client: redis.Redis, host: str) -> Heartbeat | None:
    """Return what this host's watcher reports; None when it is silent, or of another version. Raises BrokerAway."""
    try:
        return heartbeat.read(client, host)
    except (ValueError, KeyError, TypeError):
        return None
