"""Helping claimed parcels that nobody looks after: what recovery decides, carried out."""

import dataclasses
import time
from collections import Counter

from celery.states import SUCCESS

from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.outages import is_inbox_wide
from inboxd.broker.recovery import ClaimedParcel, GracePeriods, RecoveryAction, choose_actions
from inboxd.config.settings import Inbox
from inboxd.errors import InvalidMessage
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.outcome import outcome_from_wire
from inboxd.messaging.queues import WORK_QUEUE, files_queue, queued_task_ids
from inboxd.messaging.results import ResultRecord
from inboxd.spool.claims import list_files, list_parcels, remove_if_empty
from inboxd.spool.layout import Folders, created_at
from inboxd.tasks.outcomes.apply import OutcomeApplier, is_final_result
from inboxd.tasks.work.lease_renewer import RENEWALS_PER_LEASE
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.process_identity import Liveness, liveness

_log = get_logger(__name__)


class Repair:
    """Looks through one inbox's claimed/, and helps."""

    def __init__(
        self, context: WorkerContext, inbox: Inbox, folders: Folders, *, after_outage: bool = False, finished_now: bool = False
    ) -> None:
        """Prepare for one run.

        ``after_outage`` says that Redis was away for a while: distant workers get another lease's time to come back.
        ``finished_now`` says that nobody else will file what is finished, so that its callback is not waited for: something
        could not be filed before, or the worker ends.
        """
        self._after_outage = after_outage
        self._finished_now = finished_now
        self._stuck: dict[str, list[str]] = {}
        self._context = context
        self._inbox = inbox
        self._folders = folders
        self._applier = OutcomeApplier(context, inbox, folders)

    def run(self, *, only: RecoveryAction | None = None) -> Counter[str]:
        """Help every parcel that needs it, or that needs ``only`` this; returns how many got which help.

        Raises BrokerAway, and FolderAway or OSError at the first parcel whose trouble would be that of all others, too.
        """
        ids = list_parcels(self._context.disk, self._folders)
        if not ids:
            return Counter()
        # the queues before the leases: a message that starts in between shows as running, not as lost
        queued = self._queued(ids)
        leases = {parcel: self._judged(lease) for parcel, lease in self._context.leases.read(ids).items()}
        idle = [parcel for parcel in ids if (lease := leases[parcel]) is None or lease.seconds_left < 0]
        stored = self._context.stored(idle)
        found = [self._found(parcel, stored[parcel]) for parcel in idle]
        grace = self._context.settings.sweep.grace_seconds
        limits = GracePeriods(grace, renewal=max(grace, 2 * self._context.settings.work.lease_seconds / RENEWALS_PER_LEASE))
        decisions = choose_actions(found, leases, queued, self._context.leases.dataset_age(), limits)
        helped: Counter[str] = Counter()
        for parcel, help_ in decisions.items():
            if help_ is RecoveryAction.REPUBLISH and self._is_just_finished(leases[parcel]):
                continue  # its outcome is on its way into the store
            if help_ is not RecoveryAction.LEAVE and only in (None, help_):
                helped[help_.value] += self._try(parcel, help_, leases[parcel], stored[parcel])
        for error, stuck in self._stuck.items():
            _log.warning(
                events.PARCEL_STUCK, inbox=self._inbox.name, parcel=stuck[0], parcels=len(stuck), error=error,
                remedy="it is tried again",
            )  # fmt: skip
        return +helped

    def _is_just_finished(self, lease: Lease | None) -> bool:
        return self._finished_now and lease is not None and lease.state is LeaseState.FINISHED

    def _queued(self, ids: list[str]) -> frozenset[str]:
        """Return whose messages still wait; the queues are read only if a lease has lapsed."""
        leases = self._context.leases.read(ids)
        if not any(
            lease and lease.seconds_left < 0 and lease.state in (LeaseState.QUEUED, LeaseState.RUNNING)
            for lease in leases.values()
        ):
            return frozenset()
        return frozenset(queued_task_ids(self._context.client, (WORK_QUEUE, files_queue(self._context.host))))

    def _judged(self, lease: Lease | None) -> Lease | None:
        """Let what is known of a lease's owner count for more than the clock: a dead one's lapses, a living one's does not."""
        if lease is not None and lease.state is LeaseState.FINISHED and self._finished_now:
            return dataclasses.replace(lease, seconds_left=-1.0)
        if lease is None or lease.state is not LeaseState.RUNNING:
            return lease
        match liveness(lease.owner):
            case Liveness.DEAD:
                return dataclasses.replace(lease, seconds_left=-1.0)
            case _ if self._after_outage:
                return dataclasses.replace(lease, seconds_left=max(lease.seconds_left, 0.0))
            case Liveness.ALIVE:  # it lives, but has let its lease lapse: once more so long, and it has forgotten the parcel
                return dataclasses.replace(lease, seconds_left=lease.seconds_left + self._context.settings.work.lease_seconds)
            case _:
                return lease

    def _try(self, parcel: str, help_: RecoveryAction, lease: Lease | None, stored: ResultRecord) -> bool:
        """Help one parcel; trouble of its own must not keep the others from being helped. Raises OSError, BrokerAway."""
        try:
            paths = list_files(self._context.disk, self._folders, parcel)
            self._help(parcel, paths, help_, lease, stored)
        except (OSError, InvalidMessage) as error:
            if is_inbox_wide(self._context.disk, self._inbox.root, error):
                raise
            why = f"{help_.value}: {getattr(error, 'strerror', None) or error}"
            self._stuck.setdefault(why, []).append(parcel)
            return False
        if help_ is not RecoveryAction.RENEW:
            _log.info(events.PARCEL_HELPED, inbox=self._inbox.name, parcel=parcel, files=len(paths), help=help_.value)
        return True

    def _found(self, parcel: str, stored: ResultRecord) -> ClaimedParcel:
        count = len(list_files(self._context.disk, self._folders, parcel))
        return ClaimedParcel(parcel, time.time() - created_at(parcel), count, is_final_result(stored))

    def _help(self, parcel: str, paths: list[bytes], help_: RecoveryAction, lease: Lease | None, stored: ResultRecord) -> None:
        match help_:
            case RecoveryAction.REPUBLISH:
                self._publish(parcel, paths, lease)
            case RecoveryAction.RENEW:
                self._context.leases.take_over(parcel, lease, self._context.settings.sweep.stale_seconds)
            case RecoveryAction.FILE:
                self._file_away(parcel, lease, stored)
            case RecoveryAction.COUNT_CRASH if lease:
                self._applier.crashed(parcel, lease)
            case RecoveryAction.SPLIT if lease:
                self._applier.split_up(parcel, lease)
            case _:
                self._discard(parcel, lease)

    def _discard(self, parcel: str, lease: Lease | None) -> None:
        """Remove an empty parcel. One that waited to be worked on was emptied by another hand, or by a sweep that died."""
        if lease is not None and lease.state in (LeaseState.QUEUED, LeaseState.RUNNING):
            why = "nothing is in its parcel any more: unless it was split, somebody else has moved or deleted it"
            _log.warning(events.FILE_GONE, inbox=self._inbox.name, parcel=parcel, why=why)
        remove_if_empty(self._context.disk, self._folders, parcel)
        self._context.leases.mark_filed(parcel)

    def _publish(self, parcel: str, paths: list[bytes], lease: Lease | None) -> None:
        grace = self._context.settings.sweep.grace_seconds
        if self._context.leases.take_over(parcel, lease, grace) is not None:
            used = min(lease.used_retries, self._inbox.retries) if lease else 0
            self._applier.publish(parcel, paths, retries=used)

    def _file_away(self, parcel: str, lease: Lease | None, stored: ResultRecord) -> None:
        if stored["status"] == SUCCESS:
            self._applier.outcome(outcome_from_wire(stored["result"]))
        else:
            self._applier.failure(parcel, stored, lease.attempt if lease else 1)
