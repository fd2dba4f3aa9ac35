"""Which claimed parcels need help, and what help? Pure: the clock, the leases and the outcomes come as arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from inboxd.broker.leases import Held, Lease
from inboxd.spool.lifecycle import State


class Help(StrEnum):
    """What to do with a parcel."""

    LEAVE = "leave"  # somebody looks after it
    PUBLISH = "publish"  # its message is lost: send it again
    RENEW = "renew"  # its message still waits in a queue: note that it was seen
    FILE_AWAY = "file_away"  # its outcome is stored, its callback was lost
    CRASHED = "crashed"  # its worker died: count it, then send again, split or give up
    DISCARD = "discard"  # nothing is in it
    ADOPT = "adopt"  # files are left in it that its outcome does not speak of: give them a new parcel


@dataclass(frozen=True, slots=True)
class Found:
    """A claimed parcel as found: how old it is (seconds), how many files it holds, and whether a final outcome is stored."""

    id: str
    age: float
    files: int
    outcome: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to leave a parcel alone that has no lease, in seconds: ``grace`` after its birth, ``renewal`` after Redis's."""

    grace: float
    renewal: float


def state_of(lease: Lease | None, *, outcome: bool) -> State:
    """Tell where a claimed parcel stands in its life, from what Redis knows of it."""
    if lease is None:
        return State.FINISHED if outcome else State.CLAIMED
    match lease.held:
        case Held.QUEUED:
            return State.QUEUED
        case Held.RUNNING:
            return State.RUNNING
        case Held.FINISHED | Held.FILED:
            return State.FINISHED


def decide(
    found: Sequence[Found],
    leases: Mapping[str, Lease | None],
    queued: frozenset[str],
    epoch_age: float,
    limits: Limits,
) -> dict[str, Help]:
    """Decide for every parcel found under claimed/.

    ``queued`` are the ids whose messages still wait in a queue. ``epoch_age`` says for how many seconds Redis has had its
    memory: when it has just lost it, running workers get ``renewal`` seconds to take their leases anew.
    """
    return {parcel.id: _decide(parcel, leases.get(parcel.id), queued, epoch_age, limits) for parcel in found}


def _decide(parcel: Found, lease: Lease | None, queued: frozenset[str], epoch_age: float, limits: Limits) -> Help:
    state = state_of(lease, outcome=parcel.outcome)
    young = parcel.age < limits.grace or epoch_age < limits.renewal
    lapsed = lease is None or lease.left < 0
    if (lease is None and young) or not lapsed:
        return Help.LEAVE
    if parcel.files == 0:
        return Help.DISCARD
    if lease is not None and lease.held is Held.FILED:
        return Help.ADOPT
    if parcel.outcome:
        return Help.FILE_AWAY
    match state:
        case State.QUEUED | State.RUNNING if parcel.id in queued:
            return Help.RENEW
        case State.RUNNING:
            return Help.CRASHED
        case _ if lease is not None and lease.crashes and parcel.files > 1:
            return Help.ADOPT  # who began to split it has died over that
        case _:
            return Help.PUBLISH


def gives_up(crashes: int, files: int, crashes_max: int) -> Help:
    """Decide what to do with a parcel whose worker has died ``crashes`` times: alone, it has its chances; in company, none."""
    if files > 1:
        return Help.ADOPT
    return Help.FILE_AWAY if crashes >= crashes_max else Help.PUBLISH
