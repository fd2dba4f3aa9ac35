"""Helping claimed parcels that nobody looks after: what recovery decides, carried out."""

import dataclasses
import time
from collections import Counter

from celery.states import SUCCESS

from spool import log
from spool.folders import Folders, born
from spool.lease import Held, Lease
from spool.outcome import from_wire
from spool.queue import WORK_QUEUE, files_queue, in_queues
from spool.recovery import Found, Help, Limits, decide, needs_queues
from spool.settings import Inbox
from spool.store import discard, files, parcels
from tasks.filer import Filer, Stored, is_final
from tasks.owner import is_dead
from tasks.workshop import Workshop

SEEN_SECONDS = 60.0
"""A message that was seen in its queue is looked for again after so long."""

_log = log.get(__name__)


class Repair:
    """Looks through one inbox's claimed/, and helps."""

    def __init__(self, workshop: Workshop, inbox: Inbox, folders: Folders) -> None:
        self._workshop = workshop
        self._inbox = inbox
        self._folders = folders
        self._filer = Filer(workshop, inbox, folders)

    def run(self) -> Counter[str]:
        """Help every parcel that needs it; returns how many got which help. Raises OSError, BrokerAway."""
        ids = parcels(self._workshop.disk, self._folders)
        leases = {parcel: self._judged(lease) for parcel, lease in self._workshop.leases.read(ids).items()}
        idle = [parcel for parcel in ids if (lease := leases[parcel]) is None or lease.left < 0]
        stored = self._workshop.stored(idle)
        found = [self._found(parcel, stored[parcel]) for parcel in idle]
        queued: frozenset[str] = frozenset()
        if needs_queues(found, leases):
            queued = frozenset(in_queues(self._workshop.client, (WORK_QUEUE, files_queue(self._workshop.host))))
        limits = Limits(grace=self._workshop.settings.sweep.grace_seconds)
        decisions = decide(found, leases, queued, self._workshop.leases.epoch_age(), limits)
        helped: Counter[str] = Counter()
        for parcel, help_ in decisions.items():
            if help_ is not Help.LEAVE:
                self._help(parcel, help_, leases[parcel], stored[parcel])
                helped[help_.value] += 1
        return helped

    def _judged(self, lease: Lease | None) -> Lease | None:
        """Let the lease of a process that is known to be gone count as lapsed."""
        if lease and lease.held is Held.RUNNING and is_dead(lease.token, self._workshop.host):
            return dataclasses.replace(lease, left=-1.0)
        return lease

    def _found(self, parcel: str, stored: Stored) -> Found:
        count = len(files(self._workshop.disk, self._folders, parcel))
        return Found(parcel, time.time() - born(parcel), count, is_final(stored))

    def _help(self, parcel: str, help_: Help, lease: Lease | None, stored: Stored) -> None:
        paths = files(self._workshop.disk, self._folders, parcel)
        _log.info(log.PARCEL_HELPED, inbox=self._inbox.name, parcel=parcel, files=len(paths), help=help_.value)
        match help_:
            case Help.PUBLISH:
                used = min(lease.retries, self._inbox.retries) if lease else 0
                self._filer.publish(parcel, paths, retries=used)
            case Help.RENEW:
                self._workshop.leases.queue(parcel, self._inbox.name, SEEN_SECONDS)
            case Help.FILE_AWAY if stored["status"] == SUCCESS:
                self._filer.outcome(from_wire(stored["result"]))
            case Help.FILE_AWAY:
                self._filer.failure(parcel, stored, lease.attempt if lease else 1)
            case Help.CRASHED:
                self._filer.crashed(parcel, lease.token if lease else "")
            case Help.ADOPT:
                self._filer.adopt(parcel, paths)
            case _:
                discard(self._workshop.disk, self._folders, parcel)
