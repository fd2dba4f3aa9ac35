"""What every task works with: the settings, the disk, the leases, and the app that sends."""

import contextlib
from collections.abc import Sequence
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
from inboxd.intake.packing import Packed, build_parcel, pack
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging import results
from inboxd.messaging.celery_app import send_parcel
from inboxd.messaging.results import read_results
from inboxd.spool.layout import Folders
from inboxd.tasks.worker.progress import FOLDER, Progress

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Built once in each program; holds no connection of its own until something is asked."""

    settings: Settings
    app: Celery
    disk: Disk
    client: redis.Redis
    leases: Leases
    progress: Progress
    counters: Counters
    retiring: frozenset[str] = frozenset()
    """Inboxes that were removed from the settings: what is in flight is finished, and nothing more is taken in."""

    @property
    def host(self) -> str:
        """This host's name in queues."""
        return self.settings.host

    def resend(
        self, folders: Folders, inbox: Inbox, parcel: str, paths: list[bytes], *, retries: int = 0, countdown: float = 0.0
    ) -> Packed:
        """Pack what a claimed parcel holds and send it under its own id; its lease must be the caller's doing.

        Raises BrokerAway; the parcel stays claimed, its lease lapses, and a later sweep tries again.
        """
        packed = pack(self.disk, folders, inbox, parcel, paths)
        if packed.parts:
            send_parcel(self.app, build_parcel(packed, parcel, inbox, self.host), inbox, retries=retries, countdown=countdown)
        return packed

    def stored(self, parcels: Sequence[str]) -> dict[str, results.ResultRecord]:
        """Return Celery's result record of each parcel; status PENDING where there is none. Raises BrokerAway."""
        return read_results(self.app, parcels)

    def record_if_outage(self, inbox: Inbox, error: Exception, seen_by: str) -> bool:
        """Tell whether an error is about the inbox as a whole. If so, it is left for all to know, and logged if it is news.

        ``seen_by`` is the sweep that will see when it is over.
        """
        if not is_inbox_wide(self.disk, inbox.root, error):
            return False
        away = isinstance(error, FolderUnavailable)
        where = inbox.root / str(getattr(error, "filename", None) or "")
        why = str(error) if away else f"{where}: {getattr(error, 'strerror', None) or error}"
        with contextlib.suppress(BrokerUnavailable):
            if record_outage(self.client, self.host, inbox.name, why, seen_by=seen_by if away else ""):
                remedy = "nothing more is claimed until it is over; what is finished is filed then"
                _log.warning(events.FOLDER_AWAY, inbox=inbox.name, error=why, remedy=remedy)
        return True


def make_context(settings: Settings, app: Celery) -> WorkerContext:
    """Put a context together. A lease's record outlives every copy of its message that Redis may hold back."""
    client = make_client(settings)
    keep_seconds = 2 * settings.redis.visibility_timeout_seconds
    disk = Disk()
    progress = Progress(client, keep_seconds, disk, settings.state_dir / FOLDER)
    return WorkerContext(settings, app, disk, client, Leases(client, keep_seconds), progress, Counters(client, settings.host))
