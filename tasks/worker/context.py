"""What every task works with: the settings, the disk, Redis, and the app that sends messages."""

import contextlib
from dataclasses import dataclass

import redis
from celery import Celery

from inboxd.broker.connection import make_client
from inboxd.broker.counters import Counters
from inboxd.broker.leases import Leases
from inboxd.broker.outages import is_inbox_wide, record_outage
from inboxd.config.settings import Inbox, Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.tasks.worker.progress import FOLDER, Progress
from inboxd.tasks.worker.sweep_locks import SweepLocks

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Made once in each process; connects to Redis when it is first used."""

    settings: Settings
    app: Celery
    disk: Disk
    client: redis.Redis
    leases: Leases
    progress: Progress
    counters: Counters
    sweep_locks: SweepLocks
    retiring: frozenset[str] = frozenset()
    """Inboxes that were removed from the settings: what is in flight is finished, and nothing more is taken in."""

    @property
    def host(self) -> str:
        """This host's name in queues."""
        return self.settings.host

    def record_if_outage(self, inbox: Inbox, error: Exception, sweep: str) -> bool:
        """Return whether an error concerns the inbox as a whole. If so, record it in Redis, and log it unless it is known.

        ``sweep`` is the one that will see when missing folders are back.
        """
        if not is_inbox_wide(self.disk, inbox.root, error):
            return False
        unavailable = isinstance(error, FolderUnavailable)
        where = inbox.root / str(getattr(error, "filename", None) or "")
        why = str(error) if unavailable else f"{where}: {getattr(error, 'strerror', None) or error}"
        with contextlib.suppress(BrokerUnavailable):
            if record_outage(self.client, self.host, inbox.name, why, seen_by=sweep if unavailable else ""):
                remedy = "nothing more is claimed until it is over; what is finished is filed then"
                _log.warning(events.FOLDER_UNAVAILABLE, inbox=inbox.name, error=why, remedy=remedy)
        return True


def make_context(settings: Settings, app: Celery) -> WorkerContext:
    """Make a context. Lease records are kept twice the visibility timeout: longer than any copy of a parcel's message."""
    client = make_client(settings)
    keep_seconds = 2 * settings.redis.visibility_timeout_seconds
    disk = Disk()
    return WorkerContext(
        settings,
        app,
        disk,
        client,
        Leases(client, keep_seconds),
        Progress(client, keep_seconds, disk, settings.state_dir / FOLDER),
        Counters(client, settings.host),
        SweepLocks(client, settings.host),
    )
