"""Decides which claimed parcels need recovery, and how. Pure: clock, leases and outcomes are arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from inboxd.broker.leases import Lease, LeaseState

CLOCK_SKEW_SECONDS = 1.0
"""How many seconds a parcel's id may be in the future before the clock counts as set back."""


class ParcelState(StrEnum):
    """The state of a claimed parcel; docs/architecture.md has the table of all states."""

    CLAIMED = "claimed"  # S1: no lease: its message was not sent, or the lease was lost
    QUEUED = "queued"  # S2: its message waits for a worker
    RUNNING = "running"  # S3: a worker holds the lease
    FINISHED = "finished"  # S4: the outcome is known


class RecoveryAction(StrEnum):
    """What the stale sweep does with a parcel."""

    LEAVE = "leave"  # it needs no recovery
    REPUBLISH = "republish"  # its message is lost: publish it again
    RENEW = "renew"  # its message still waits in a queue: extend the lease
    APPLY = "apply"  # its outcome is stored, its callback was lost: apply it
    COUNT_CRASH = "count_crash"  # its worker died: count that, then publish again, split or fail it
    REMOVE = "remove"  # it holds no file
    FAIL = "fail"  # a lone file has crashed too many workers: move it to failed/
    SPLIT = "split"  # several files after a crash, or files without a verdict: move each into a new parcel


@dataclass(frozen=True, slots=True)
class ClaimedParcel:
    """A claimed parcel: its id, its age, its number of files, and whether a final outcome is stored."""

    id: str
    age_seconds: float
    files: int
    has_outcome: bool


@dataclass(frozen=True, slots=True)
class GracePeriods:
    """The minimum ages of a parcel and of Redis's dataset before a parcel without a lease is recovered."""

    parcel_seconds: float
    dataset_seconds: float


def parcel_state(lease: Lease | None, *, has_outcome: bool) -> ParcelState:
    """Return the state of a claimed parcel."""
    if lease is None:
        return ParcelState.FINISHED if has_outcome else ParcelState.CLAIMED
    match lease.state:
        case LeaseState.QUEUED:
            return ParcelState.QUEUED
        case LeaseState.RUNNING:
            return ParcelState.RUNNING
        case LeaseState.FINISHED | LeaseState.FILED:
            return ParcelState.FINISHED


def choose_actions(
    parcels: Sequence[ClaimedParcel],
    leases: Mapping[str, Lease | None],
    queued: frozenset[str],
    dataset_age: float,
    grace: GracePeriods,
) -> dict[str, RecoveryAction]:
    """Return the action for each parcel in claimed/.

    ``queued`` has the ids of parcels whose messages wait in a queue. ``dataset_age`` is in seconds: after Redis has lost its
    dataset, running workers have ``grace.dataset_seconds`` to recreate their leases.
    """
    return {parcel.id: _choose_action(parcel, leases.get(parcel.id), queued, dataset_age, grace) for parcel in parcels}


def _choose_action(
    parcel: ClaimedParcel, lease: Lease | None, queued: frozenset[str], dataset_age: float, grace: GracePeriods
) -> RecoveryAction:
    # a negative age is that of a clock that was set back since, and says nothing: what waits counts as old
    is_new = -CLOCK_SKEW_SECONDS <= parcel.age_seconds < grace.parcel_seconds or 0 <= dataset_age < grace.dataset_seconds
    is_protected = is_new if lease is None else lease.seconds_left >= 0
    if is_protected:
        return RecoveryAction.LEAVE
    if parcel.files == 0:
        return RecoveryAction.REMOVE
    if lease is not None and lease.state is LeaseState.FILED:
        return RecoveryAction.SPLIT
    if parcel.has_outcome:
        return RecoveryAction.APPLY
    match parcel_state(lease, has_outcome=parcel.has_outcome):
        case ParcelState.QUEUED | ParcelState.RUNNING if parcel.id in queued:
            return RecoveryAction.RENEW
        case ParcelState.RUNNING:
            return RecoveryAction.COUNT_CRASH
        case _ if lease is not None and lease.crashes and parcel.files > 1:
            return RecoveryAction.SPLIT  # a process died while it split the parcel
        case _:
            return RecoveryAction.REPUBLISH


def action_after_crash(crashes: int, files: int, crashes_max: int) -> RecoveryAction:
    """Return the action after a crash: split a parcel of many files; republish a lone file, and fail it at ``crashes_max``."""
    if files > 1:
        return RecoveryAction.SPLIT
    return RecoveryAction.FAIL if crashes >= crashes_max else RecoveryAction.REPUBLISH
