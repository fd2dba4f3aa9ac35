"""The life of a file, as one table. Pure; docs/architecture.md shows the same table, and a test compares the two."""

from enum import StrEnum


class State(StrEnum):
    """Where a file is, and who moves it on."""

    DROPPED = "dropped"  # S0: in inbox/
    CLAIMED = "claimed"  # S1: in claimed/<parcel>/, no lease
    QUEUED = "queued"  # S2: in claimed/<parcel>/, a message is on its way to a worker
    RUNNING = "running"  # S3: in claimed/<parcel>/, a worker holds the lease
    FINISHED = "finished"  # S4: in claimed/<parcel>/, the outcome is stored
    DONE = "done"  # S5: in done/
    FAILED = "failed"  # S6: in failed/, with a note beside it
    EXPIRED = "expired"  # deleted by retention


class Event(StrEnum):
    """What can happen to a file."""

    CLAIM = "claim"  # renamed into a parcel
    RELEASE = "release"  # put back into inbox/
    REFUSE = "refuse"  # can't be accepted: a link, a device, too large
    PUBLISH = "publish"  # its message was sent (again)
    START = "start"  # a worker took the lease
    LAPSE = "lapse"  # nobody renewed the lease
    FINISH = "finish"  # the handler's outcome is stored
    RETRY = "retry"  # the handler raised; it will be tried again, alone
    FILE_DONE = "file_done"  # success callback, or a sweep in its place
    FILE_FAILED = "file_failed"  # error callback, or a sweep in its place
    PUT_BACK = "put_back"  # a person moved it back into inbox/
    EXPIRE = "expire"  # older than its inbox keeps


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.DROPPED, Event.CLAIM): State.CLAIMED,
    (State.CLAIMED, Event.RELEASE): State.DROPPED,
    (State.CLAIMED, Event.REFUSE): State.FAILED,
    (State.CLAIMED, Event.PUBLISH): State.QUEUED,
    (State.QUEUED, Event.START): State.RUNNING,
    (State.QUEUED, Event.LAPSE): State.CLAIMED,
    (State.RUNNING, Event.LAPSE): State.CLAIMED,
    (State.RUNNING, Event.FINISH): State.FINISHED,
    (State.RUNNING, Event.RETRY): State.QUEUED,
    (State.FINISHED, Event.RETRY): State.CLAIMED,
    (State.FINISHED, Event.FILE_DONE): State.DONE,
    (State.FINISHED, Event.FILE_FAILED): State.FAILED,
    (State.CLAIMED, Event.FILE_FAILED): State.FAILED,
    (State.DONE, Event.EXPIRE): State.EXPIRED,
    (State.FAILED, Event.EXPIRE): State.EXPIRED,
    (State.FAILED, Event.PUT_BACK): State.DROPPED,
}


def step(state: State, event: Event) -> State:
    """Return the state after an event; raise ValueError for every pair that the table does not have."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a file that is {state} can't {event}") from None
