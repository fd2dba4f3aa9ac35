"""Publishes claimed parcels again: unchanged, or split into parcels of one file each."""

from inboxd.broker.counters import REFUSED, Tally
from inboxd.config.rules import Inbox
from inboxd.intake.packing import build_parcel, dispose_of_unpacked, pack
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.publishing import Publisher
from inboxd.spool.claims import split_off
from inboxd.spool.layout import Folders, new_parcel_id
from inboxd.tasks.process_state.context import WorkerContext

_log = get_logger(__name__)


class Republisher:
    """Publishes parcels of one inbox. One that can't be sent stays claimed: its lease lapses, and a sweep publishes it."""

    def __init__(self, context: WorkerContext, inbox: Inbox, folders: Folders, tally: Tally) -> None:
        self._context = context
        self._inbox = inbox
        self._folders = folders
        self._tally = tally
        self._publisher = Publisher(context.app, context.leases, stages=bool(context.settings.stage.url))

    def publish(
        self, parcel: str, paths: list[bytes], *, retries: int = 0, countdown: float = 0.0, avoids_store: bool = False
    ) -> None:
        """Send a claimed parcel, whose lease the caller has set.

        ``retries`` attempts count as used; the handler starts in ``countdown`` seconds; see Publisher for ``avoids_store``.
        Raises OSError, BrokerUnavailable.
        """
        disk, folders, inbox = self._context.disk, self._folders, self._inbox
        packed = pack(disk, folders, inbox, parcel, paths)
        self._tally.count_filed(inbox.name, REFUSED, files=dispose_of_unpacked(disk, folders, inbox, parcel, packed))
        if packed.parts:
            message = build_parcel(packed, parcel, inbox, self._context.host)
            self._publisher.publish(message, inbox, retries=retries, countdown=countdown, avoids_store=avoids_store)
            _log.info(events.PARCEL_REPUBLISHED, inbox=inbox.name, parcel=parcel, files=len(packed.parts))

    def split_off(
        self, parcel: str, path: bytes, *, failure: str | None = None, retry_after: float = 0.0, store_fault: str = ""
    ) -> None:
        """Send one file in a parcel of its own; no-op if the file is missing. Raises OSError, BrokerUnavailable.

        ``failure`` is the reason of a failed attempt, which counts as used and delays the next one; None: no attempt was made.
        ``retry_after`` is the delay in seconds that was asked for, ``store_fault`` why the store did not give the file.
        """
        used = int(failure is not None)
        new_parcel = new_parcel_id()
        # If we die here: see claims.split_off. Below: a parcel with no lease, or one that lapses; the sweep publishes it.
        if not split_off(self._context.disk, self._folders, parcel, path, new_parcel):
            return
        _log.info(
            events.PARCEL_SPLIT,
            inbox=self._inbox.name,
            file=path,
            parcel=new_parcel,
            out_of=parcel,
            why=failure or store_fault or None,
        )
        wait = self._inbox.retry_delay(0, retry_after) if used else 0.0
        lease_seconds = self._context.settings.sweep.grace_seconds + wait
        self._context.leases.queue(new_parcel, self._inbox.name, lease_seconds, attempts=used)
        self.publish(new_parcel, [path], retries=used, countdown=wait, avoids_store=bool(store_fault))
