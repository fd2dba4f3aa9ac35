"""Which files have been on their way for longer than their inbox's own limits explain. Pure."""

from collections.abc import Iterator

from inboxd.broker.heartbeat import InboxReport
from inboxd.config.settings import HARD_LIMIT_GRACE_SECONDS, Inbox
from inboxd.console.times import format_age
from inboxd.logs.text import escape
from inboxd.monitoring.file_counts import FileCounts

WAITING_SECONDS = 1800.0
"""A complete file that nothing holds back is taken within seconds; what waits so long waits for a person."""
CLAIMED_SECONDS = 3600.0
"""However quick the handler: repairs after a lost Redis or a killed worker take their time, too."""


def find_stuck(inbox: Inbox, counts: FileCounts, watched: InboxReport | None, slots: int) -> Iterator[str]:
    """Tell of the oldest file in inbox/ and in claimed/, if it is stuck; ``slots`` is how many handlers run at a time.

    Files that wait for their turn, or in the queue behind others, are not: that is a backlog.
    """
    waits, held = counts.oldest_waiting_seconds, counts.oldest_claimed_seconds
    if waits is not None and waits > waiting_seconds_max(inbox) and watched and not watched.is_busy:
        yield _describe(inbox, b"inbox/", counts.oldest_waiting, "is not taken", waits)
    if held is not None and held > claimed_seconds_max(inbox, counts.in_flight, slots):
        yield _describe(inbox, b"", counts.oldest_claimed, "is claimed", held)


def waiting_seconds_max(inbox: Inbox) -> float:
    """Return how long a file may lie in inbox/, if the watcher has nothing else to take."""
    unsure = 0.0 if inbox.unsure_seconds == "auto" else inbox.unsure_seconds
    return WAITING_SECONDS + max(inbox.settle_seconds, unsure, inbox.empty_file_seconds)


def claimed_seconds_max(inbox: Inbox, in_flight: int, slots: int) -> float:
    """Return how long a file may be claimed: twice all its attempts and the waits between them, behind all the others."""
    attempt = inbox.time_limit_seconds + HARD_LIMIT_GRACE_SECONDS
    waits = sum(map(inbox.retry_delay, range(inbox.retries)))
    own = max(CLAIMED_SECONDS, 2 * (attempt * (inbox.retries + 1) + waits))
    return own + in_flight // max(slots, 1) * attempt


def _describe(inbox: Inbox, top: bytes, path: bytes | None, what: str, seconds: float) -> str:
    where = escape(top + (path or b"?"))
    return f"{inbox.name}: {where} {what} for {format_age(seconds)}: `inboxd explain` with its path says why"
