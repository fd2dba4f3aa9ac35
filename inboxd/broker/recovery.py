"""Which claimed parcels need help, and what help? Pure: the clock, the leases and the outcomes come as arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from inboxd.broker.leases import Lease, LeaseState


class ParcelState(StrEnum):
    """Where a claimed parcel stands; docs/architecture.md has the whole life of a file."""

    CLAIMED = "claimed"  # S1: no message of it was sent
    QUEUED = "queued"  # S2: a message is on its way to a worker
    RUNNING = "running"  # S3: a worker holds the lease
    FINISHED = "finished"  # S4: the outcome is known


class RecoveryAction(StrEnum):
    """What to do with a parcel."""

    LEAVE = "leave"  # somebody looks after it
    REPUBLISH = "republish"  # its message is lost: send it again
    RENEW = "renew"  # its message still waits in a queue: note that it was seen
    FILE = "file"  # its outcome is stored, its callback was lost
    COUNT_CRASH = "count_crash"  # its worker died: count it, then send again, split or give up
    REMOVE = "remove"  # nothing is in it
    SPLIT = "split"  # files are left in it that its outcome does not speak of: give them a new parcel


@dataclass(frozen=True, slots=True)
class ClaimedParcel:
    """A claimed parcel as found: how old it is (seconds), how many files it holds, and whether a final outcome is stored."""

    id: str
    age: float
    files: int
    has_outcome: bool


@dataclass(frozen=True, slots=True)
class GracePeriods:
    """How long to leave a parcel alone that has no lease, in seconds: ``grace`` after its birth, ``renewal`` after Redis's."""

    grace: float
    renewal: float


def parcel_state(lease: Lease | None, *, outcome: bool) -> ParcelState:
    """Tell where a claimed parcel stands in its life, from what Redis knows of it."""
    if lease is None:
        return ParcelState.FINISHED if outcome else ParcelState.CLAIMED
    match lease.state:
        case LeaseState.QUEUED:
            return ParcelState.QUEUED
        case LeaseState.RUNNING:
            return ParcelState.RUNNING
        case LeaseState.FINISHED | LeaseState.FILED:
            return ParcelState.FINISHED


def choose_actions(
    found: Sequence[ClaimedParcel],
    leases: Mapping[str, Lease | None],
    queued: frozenset[str],
    epoch_age: float,
    limits: GracePeriods,
) -> dict[str, RecoveryAction]:
    """Decide for every parcel found under claimed/.

    ``queued`` are the ids whose messages still wait in a queue. ``epoch_age`` says for how many seconds Redis has had its
    memory: when it has just lost it, running workers get ``renewal`` seconds to take their leases anew.
    """
    return {parcel.id: _choose_action(parcel, leases.get(parcel.id), queued, epoch_age, limits) for parcel in found}


def _choose_action(
    parcel: ClaimedParcel, lease: Lease | None, queued: frozenset[str], epoch_age: float, limits: GracePeriods
) -> RecoveryAction:
    state = parcel_state(lease, outcome=parcel.has_outcome)
    young = parcel.age < limits.grace or epoch_age < limits.renewal
    lapsed = lease is None or lease.seconds_left < 0
    if (lease is None and young) or not lapsed:
        return RecoveryAction.LEAVE
    if parcel.files == 0:
        return RecoveryAction.REMOVE
    if lease is not None and lease.state is LeaseState.FILED:
        return RecoveryAction.SPLIT
    if parcel.has_outcome:
        return RecoveryAction.FILE
    match state:
        case ParcelState.QUEUED | ParcelState.RUNNING if parcel.id in queued:
            return RecoveryAction.RENEW
        case ParcelState.RUNNING:
            return RecoveryAction.COUNT_CRASH
        case _ if lease is not None and lease.crashes and parcel.files > 1:
            return RecoveryAction.SPLIT  # who began to split it has died over that
        case _:
            return RecoveryAction.REPUBLISH


def action_after_crash(crashes: int, files: int, crashes_max: int) -> RecoveryAction:
    """Decide what to do with a parcel whose worker has died ``crashes`` times: alone, it has its chances; in company, none."""
    if files > 1:
        return RecoveryAction.SPLIT
    return RecoveryAction.FILE if crashes >= crashes_max else RecoveryAction.REPUBLISH
