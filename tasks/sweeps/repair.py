"""Recovering claimed parcels that nobody looks after: carries out the actions that ``recovery`` chooses."""

import dataclasses
import time
from collections import Counter

from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.outages import is_inbox_wide
from inboxd.broker.recovery import ClaimedParcel, GracePeriods, RecoveryAction, choose_actions
from inboxd.config.settings import Inbox
from inboxd.errors import InvalidMessage
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.queues import WORK_QUEUE, files_queue, queued_task_ids
from inboxd.messaging.results import ResultRecord, read_results
from inboxd.spool.claims import list_files, list_parcels, remove_if_empty
from inboxd.spool.layout import Folders, created_at
from inboxd.tasks.outcomes.apply import OutcomeApplier, is_final_result
from inboxd.tasks.work.lease_renewer import RENEWALS_PER_LEASE
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.process_identity import Liveness, liveness

_log = get_logger(__name__)


class Repair:
    """One pass over the parcels in one inbox's claimed/."""

    def __init__(
        self, context: WorkerContext, inbox: Inbox, folders: Folders, *, after_outage: bool = False, finished_now: bool = False
    ) -> None:
        """Prepare a pass.

        ``after_outage``: Redis was unavailable for a while, and workers on other hosts get another lease's time to come back.
        ``finished_now``: nobody else will file what is finished, so its callback is not waited for: something could not be
        filed before, or the worker stops.
        """
        self._context = context
        self._inbox = inbox
        self._folders = folders
        self._after_outage = after_outage
        self._finished_now = finished_now
        self._applier = OutcomeApplier(context, inbox, folders)
        self._errors: dict[str, list[str]] = {}

    def run(self, *, only: RecoveryAction | None = None) -> Counter[str]:
        """Recover every parcel that needs it, or that needs this action ``only``; returns how many got which action.

        Raises BrokerUnavailable; and FolderUnavailable or OSError at the first error that all other parcels would meet, too.
        """
        parcels = list_parcels(self._context.disk, self._folders)
        if not parcels:
            return Counter()
        # the queues before the leases: a message that starts in between shows as running, not as lost
        queued = self._queued(parcels)
        leases = {parcel: self._with_liveness(lease) for parcel, lease in self._context.leases.read(parcels).items()}
        unattended = [parcel for parcel in parcels if (lease := leases[parcel]) is None or lease.seconds_left < 0]
        stored = read_results(self._context.app, unattended)
        found = [self._inspect(parcel, stored[parcel]) for parcel in unattended]
        actions = choose_actions(found, leases, queued, self._context.leases.dataset_age(), self._grace_periods())
        done: Counter[str] = Counter()
        for parcel, action in actions.items():
            if action is RecoveryAction.REPUBLISH and self._is_just_finished(leases[parcel]):
                continue  # its outcome is on its way into the store
            if action is not RecoveryAction.LEAVE and only in (None, action):
                done[action.value] += self._recover(parcel, action, leases[parcel], stored[parcel])
        for error, parcels in self._errors.items():
            _log.warning(
                events.PARCEL_BLOCKED, inbox=self._inbox.name, parcel=parcels[0], parcels=len(parcels), error=error,
                remedy="the next sweep tries again",
            )  # fmt: skip
        return +done

    def _queued(self, parcels: list[str]) -> frozenset[str]:
        """Return the parcels whose messages still wait; the queues are read only if a lease has lapsed."""
        leases = self._context.leases.read(parcels)
        if not any(
            lease and lease.seconds_left < 0 and lease.state in (LeaseState.QUEUED, LeaseState.RUNNING)
            for lease in leases.values()
        ):
            return frozenset()
        return frozenset(queued_task_ids(self._context.client, (WORK_QUEUE, files_queue(self._context.host))))

    def _with_liveness(self, lease: Lease | None) -> Lease | None:
        """Correct a lease's time by what is known of its owner: a dead one's has lapsed, a living one's has not."""
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

    def _grace_periods(self) -> GracePeriods:
        grace = self._context.settings.sweep.grace_seconds
        renewal = 2 * self._context.settings.work.lease_seconds / RENEWALS_PER_LEASE
        return GracePeriods(grace, max(grace, renewal))

    def _inspect(self, parcel: str, stored: ResultRecord) -> ClaimedParcel:
        files = len(list_files(self._context.disk, self._folders, parcel))
        return ClaimedParcel(parcel, time.time() - created_at(parcel), files, is_final_result(stored))

    def _is_just_finished(self, lease: Lease | None) -> bool:
        return self._finished_now and lease is not None and lease.state is LeaseState.FINISHED

    def _recover(self, parcel: str, action: RecoveryAction, lease: Lease | None, stored: ResultRecord) -> bool:
        """Recover one parcel; False if an error of its own prevents that. Raises OSError for others, and BrokerUnavailable."""
        try:
            paths = list_files(self._context.disk, self._folders, parcel)
            self._carry_out(action, parcel, paths, lease, stored)
        except (OSError, InvalidMessage) as error:
            if is_inbox_wide(self._context.disk, self._inbox.root, error):
                raise
            why = f"{action.value}: {getattr(error, 'strerror', None) or error}"
            self._errors.setdefault(why, []).append(parcel)
            return False
        if action is not RecoveryAction.RENEW:
            _log.info(events.PARCEL_RECOVERED, inbox=self._inbox.name, parcel=parcel, files=len(paths), action=action.value)
        return True

    def _carry_out(
        self, action: RecoveryAction, parcel: str, paths: list[bytes], lease: Lease | None, stored: ResultRecord
    ) -> None:
        match action:
            case RecoveryAction.REPUBLISH:
                self._republish(parcel, paths, lease)
            case RecoveryAction.RENEW:
                self._context.leases.take_over(parcel, lease, self._context.settings.sweep.stale_seconds)
            case RecoveryAction.FILE:
                self._applier.apply_result(parcel, stored, lease.attempt if lease else 1)
            case RecoveryAction.COUNT_CRASH if lease:
                self._applier.apply_crash(parcel, lease)
            case RecoveryAction.SPLIT if lease:
                self._applier.apply_progress(parcel, lease)
            case _:
                self._remove(parcel, lease)

    def _republish(self, parcel: str, paths: list[bytes], lease: Lease | None) -> None:
        grace = self._context.settings.sweep.grace_seconds
        if self._context.leases.take_over(parcel, lease, grace) is not None:
            used = min(lease.used_retries, self._inbox.retries) if lease else 0
            self._applier.republish(parcel, paths, retries=used)

    def _remove(self, parcel: str, lease: Lease | None) -> None:
        """Remove an empty parcel. Somebody else has emptied one that waits or is worked on, or a sweep that died."""
        if lease is not None and lease.state in (LeaseState.QUEUED, LeaseState.RUNNING):
            why = "nothing is in its parcel any more: unless it was split, somebody else has moved or deleted it"
            _log.warning(events.FILE_MISSING, inbox=self._inbox.name, parcel=parcel, why=why)
        remove_if_empty(self._context.disk, self._folders, parcel)
        self._context.leases.mark_filed(parcel)
