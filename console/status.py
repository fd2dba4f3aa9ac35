"""What `inboxd status` knows: gathered from the folders, the broker, the workers and the watcher's heartbeat."""

from dataclasses import dataclass

import redis
from kombu.exceptions import OperationalError

from console.ping import ask
from spool import broker, census, heartbeat, queue
from spool.census import Census
from spool.disk import Disk
from spool.errors import BrokerAway, FolderAway
from spool.heartbeat import Heartbeat, Watched
from spool.settings import Settings

WORKER_ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class InboxState:
    """One inbox: its counts, or the ``problem`` with its folders; how it is watched, None if nobody says so."""

    name: str
    counts: Census | None
    problem: str = ""
    watched: Watched | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """One look at everything, at a time in unix seconds. ``away`` says why the broker is of no use, "" when it is."""

    at: float
    inboxes: tuple[InboxState, ...]
    away: str
    workers: int
    watcher: Heartbeat | None

    def troubles(self) -> list[str]:
        """Return what needs a person, a sentence each."""
        found = [f"{inbox.name}: {inbox.problem}" for inbox in self.inboxes if inbox.problem]
        if self.away:
            return [*found, f"the broker is away, and no worker or watcher can be seen: {self.away}"]
        if not self.workers:
            found.append("no worker answers: files are taken in, and not worked on")
        if self.watcher is None:
            found.append("no watcher gives a sign of life: new files are not noticed")
        return [*found, *(f"{i.name}: {i.watched.trouble}" for i in self.inboxes if i.watched and i.watched.trouble)]


def gather(settings: Settings, now: float) -> Status:
    """Look at everything once; takes a second or two, or four socket timeouts where Redis hangs.

    Raises SettingsError for a redis.url that can't be read.
    """
    workers, watcher, away = 0, None, ask(settings).why
    if not away:
        try:
            workers, watcher = _count_workers(settings), _last_heartbeat(settings)
        except BrokerAway as error:
            away = str(error)
    watched = watcher.inboxes if watcher else {}
    inboxes = tuple(_look_into(settings, name, watched.get(name)) for name in settings.inbox)
    return Status(now, inboxes, away, workers, watcher)


def _look_into(settings: Settings, name: str, watched: Watched | None) -> InboxState:
    try:
        return InboxState(name, census.count(Disk(), settings.inbox[name]), watched=watched)
    except (FolderAway, OSError) as error:
        return InboxState(name, None, str(error), watched)


def _count_workers(settings: Settings) -> int:
    """Count the workers that answer in time. Raises BrokerAway."""
    try:
        with queue.make_app(settings) as app:
            return len(app.control.inspect(timeout=WORKER_ANSWER_SECONDS).ping() or {})
    except (OperationalError, redis.RedisError, OSError) as error:
        raise BrokerAway(f"redis: {error}") from error


def _last_heartbeat(settings: Settings) -> Heartbeat | None:
    """Return what this host's watcher reports; None when it is silent, or of another version. Raises BrokerAway."""
    with broker.client(settings) as client:
        try:
            return heartbeat.read(client, settings.host)
        except (ValueError, KeyError, TypeError):
            return None
