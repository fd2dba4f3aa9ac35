"""Recovers claimed parcels whose lease has lapsed, by the actions that ``recovery`` chooses."""

import dataclasses
import time
from collections import Counter

from inboxd.broker.inbox_outages import is_inbox_wide
from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.recovery import ClaimedParcel, GracePeriods, RecoveryAction, choose_actions
from inboxd.config.rules import Inbox
from inboxd.errors import InvalidMessage
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.queues import WORK_QUEUE, files_queue, queued_task_ids, stage_queue
from inboxd.messaging.results import ResultRecord, read_results
from inboxd.spool.claims import complete_copies, list_files, list_parcels, remove_if_empty
from inboxd.spool.layout import Folders, created_at
from inboxd.tasks.outcomes.apply import OutcomeApplier, list_dropped
from inboxd.tasks.outcomes.stored_result import is_final_result
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.process_identity import Liveness, liveness
from inboxd.tasks.processing.lease_renewer import RENEWALS_PER_LEASE

_log = get_logger(__name__)


class QueuedIds:
    """The ids of the messages in the queues, for all inboxes of a sweep: reading them takes as long as all else in it.

    They are read again once they are older than the shortest lease of a queued parcel, since one that was published meanwhile
    would seem to be lost.
    """

    def __init__(self, context: WorkerContext) -> None:
        host = context.host
        self._client = context.client
        self._queues = (WORK_QUEUE, files_queue(host), stage_queue(host))
        self._seconds = context.settings.sweep.grace_seconds / 2
        self._ids: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def read(self) -> frozenset[str]:
        """Return the ids. Raises BrokerUnavailable."""
        now = time.monotonic()
        if now > self._read_at + self._seconds:
            self._ids, self._read_at = frozenset(queued_task_ids(self._client, self._queues)), now
        return self._ids


class Repair:
    """One recovery pass over the parcels in an inbox's claimed/."""

    def __init__(
        self, context: WorkerContext, inbox: Inbox, folders: Folders, queued: QueuedIds | None = None, *,
        after_outage: bool = False, finished_now: bool = False,
    ) -> None:  # fmt: skip
        """Prepare a pass. ``queued`` is common to all passes of a sweep.

        ``after_outage``: Redis was unavailable for a while, and workers on other hosts get another lease period to reconnect.
        ``finished_now``: file finished parcels at once, without waiting for their callbacks, because files could not be filed
        before, or because the worker stops.
        """
        self._context = context
        self._inbox = inbox
        self._folders = folders
        self._queued_ids = queued or QueuedIds(context)
        self._after_outage = after_outage
        self._finished_now = finished_now
        self._applier = OutcomeApplier(context, inbox, folders)
        self._errors: dict[str, list[str]] = {}

    def run(self, *, only: RecoveryAction | None = None) -> Counter[str]:
        """Recover each parcel that needs it, or only those that need the action ``only``; return the parcels' number by action.

        Raises BrokerUnavailable, and FolderUnavailable or OSError at the first error that affects the whole inbox.
        """
        parcels = list_parcels(self._context.disk, self._folders)
        if not parcels:
            return Counter()
        # the queues before the leases: a parcel that starts in between is then seen as running, not as lost
        queued = self._find_queued(parcels)
        leases = {parcel: self._with_liveness(lease) for parcel, lease in self._context.leases.read(parcels).items()}
        unattended = [parcel for parcel in parcels if (lease := leases[parcel]) is None or lease.seconds_left < 0]
        stored = self._read_results(unattended)
        claimed = [self._inspect(parcel, leases[parcel], stored[parcel]) for parcel in unattended]
        actions = choose_actions(claimed, leases, queued, self._context.leases.dataset_age(), self._grace_periods())
        recovered: Counter[str] = Counter()
        for parcel, action in actions.items():
            if action is RecoveryAction.REPUBLISH and self._is_just_finished(leases[parcel]):
                continue  # its outcome is just being stored
            if action is not RecoveryAction.LEAVE and only in (None, action):
                recovered[action.value] += self._recover(parcel, action, leases[parcel], stored[parcel])
        for error, parcels in self._errors.items():
            _log.warning(
                events.PARCEL_BLOCKED, inbox=self._inbox.name, parcel=parcels[0], parcels=len(parcels), error=error,
                remedy="the next sweep tries again",
            )  # fmt: skip
        return +recovered

    def _find_queued(self, parcels: list[str]) -> frozenset[str]:
        """Return the ids of queued messages; the queues are read only if the lease of a queued or running parcel has lapsed."""
        leases = self._context.leases.read(parcels)
        if not any(
            lease and lease.seconds_left < 0 and lease.state in (LeaseState.QUEUED, LeaseState.RUNNING)
            for lease in leases.values()
        ):
            return frozenset()
        return self._queued_ids.read()

    def _read_results(self, parcels: list[str]) -> dict[str, ResultRecord]:
        return read_results(self._context.app, parcels)

    def _is_final(self, _parcel: str, stored: ResultRecord) -> bool:
        return is_final_result(stored)

    def _with_liveness(self, lease: Lease | None) -> Lease | None:
        """Return a lease with its remaining time corrected: a dead owner's lease has lapsed, a living owner's has not."""
        if lease is not None and lease.state is LeaseState.FINISHED and self._finished_now:
            return dataclasses.replace(lease, seconds_left=-1.0)
        if lease is None or lease.state is not LeaseState.RUNNING:
            return lease
        match liveness(lease.owner):
            case Liveness.DEAD:
                return dataclasses.replace(lease, seconds_left=-1.0)
            case _ if self._after_outage:
                return dataclasses.replace(lease, seconds_left=max(lease.seconds_left, 0.0))
            case Liveness.ALIVE:  # one that has not renewed for a second lease period has abandoned the parcel
                return dataclasses.replace(lease, seconds_left=lease.seconds_left + self._context.settings.work.lease_seconds)
            case _:
                return lease

    def _grace_periods(self) -> GracePeriods:
        grace = self._context.settings.sweep.grace_seconds
        renewal = 2 * self._context.settings.work.lease_seconds / RENEWALS_PER_LEASE
        return GracePeriods(grace, max(grace, renewal))

    def _inspect(self, parcel: str, lease: Lease | None, stored: ResultRecord) -> ClaimedParcel:
        files = len(list_dropped(self._context.disk, self._folders, parcel, lease))
        if not files and list_files(self._context.disk, self._folders, parcel):
            files = 1  # only outputs of a file that is gone: the parcel is not empty
        return ClaimedParcel(parcel, time.time() - created_at(parcel), files, self._is_final(parcel, stored))

    def _is_just_finished(self, lease: Lease | None) -> bool:
        return self._finished_now and lease is not None and lease.state is LeaseState.FINISHED

    def _recover(self, parcel: str, action: RecoveryAction, lease: Lease | None, stored: ResultRecord) -> bool:
        """Recover one parcel; return False if it is left as it is. Raises BrokerUnavailable, and inbox-wide OSErrors."""
        try:
            paths = list_dropped(self._context.disk, self._folders, parcel, lease)
            is_recovered = self._carry_out(action, parcel, paths, lease, stored)
        except (OSError, ValueError, InvalidMessage) as error:  # what one parcel has must not stop the others
            if is_inbox_wide(self._context.disk, self._inbox.root, error):
                raise
            why = f"{action.value}: {getattr(error, 'strerror', None) or error}"
            self._errors.setdefault(why, []).append(parcel)
            return False
        if is_recovered and action is not RecoveryAction.RENEW:
            _log.info(events.PARCEL_RECOVERED, inbox=self._inbox.name, parcel=parcel, files=len(paths), action=action.value)
        return is_recovered

    def _carry_out(
        self, action: RecoveryAction, parcel: str, paths: list[bytes], lease: Lease | None, stored: ResultRecord
    ) -> bool:
        match action:
            case RecoveryAction.REPUBLISH:
                self._republish(parcel, paths, lease)
            case RecoveryAction.RENEW:
                self._context.leases.requeue_if_unchanged(parcel, lease, self._context.settings.sweep.stale_seconds)
            case RecoveryAction.APPLY:
                return self._apply_stored(parcel, paths, stored, lease)
            case RecoveryAction.COUNT_CRASH if lease:
                self._applier.apply_crash(parcel, lease, stored)
            case RecoveryAction.SPLIT if lease:
                self._applier.apply_progress(parcel, lease)
            case _:
                return self._remove(parcel, lease)
        return True

    def _apply_stored(self, parcel: str, _paths: list[bytes], stored: ResultRecord, lease: Lease | None) -> bool:
        return self._applier.apply_result(parcel, stored, lease)

    def _republish(self, parcel: str, paths: list[bytes], lease: Lease | None) -> None:
        if not paths:
            self._applier.close_without_file(parcel, lease)
            return
        complete_copies(self._context.disk, self._folders, parcel)
        grace = self._context.settings.sweep.grace_seconds
        if self._context.leases.requeue_if_unchanged(parcel, lease, grace) is not None:
            used = min(lease.attempts_used, self._inbox.retries) if lease else 0
            self._applier.republish(parcel, paths, retries=used)

    def _remove(self, parcel: str, lease: Lease | None) -> bool:
        """Remove an empty parcel. If it is queued or running, another program has emptied it, or a sweep that died.

        Return False if it can't be removed yet: a program has a deleted file in it open, on a network mount.
        """
        if lease is not None and lease.state in (LeaseState.QUEUED, LeaseState.RUNNING):
            why = "the parcel is empty: unless a sweep has split it, another program moved or deleted its files"
            _log.warning(events.FILE_MISSING, inbox=self._inbox.name, parcel=parcel, why=why)
        self._applier.close_outputs(parcel)
        is_removed = remove_if_empty(self._context.disk, self._folders, parcel)
        self._context.leases.mark_filed(parcel)
        return is_removed
