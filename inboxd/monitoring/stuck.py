"""Find files that wait or are claimed for longer than their inbox's own limits explain. Pure."""

from collections.abc import Iterator

from inboxd.broker.heartbeat import InboxReport
from inboxd.config.rules import Inbox
from inboxd.config.settings import HARD_LIMIT_GRACE_SECONDS
from inboxd.logs.text import escape, format_age
from inboxd.monitoring.file_counts import ActiveCounts, FileCounts

WAITING_SECONDS = 1800.0
"""Minimum time in inbox/ before a file counts as stuck, in seconds; a complete file is normally claimed within seconds."""
CLAIMED_SECONDS = 3600.0
"""Minimum time in claimed/ before a file counts as stuck, in seconds; the repairs after a crash take time, too."""


def find_stuck(inbox: Inbox, counts: FileCounts | ActiveCounts, report: InboxReport | None, slots: int) -> Iterator[str]:
    """Yield a sentence for the oldest file in inbox/ and in claimed/, if it is stuck; ``slots`` handlers run at a time.

    Files that wait behind others, in inbox/ or in a queue, are a backlog and not stuck.
    """
    waiting, claimed = counts.oldest_waiting_seconds, counts.oldest_claimed_seconds
    if waiting is not None and waiting > waiting_seconds_max(inbox) and report and not report.is_busy:
        yield _describe(inbox, b"inbox/", counts.oldest_waiting, "has not been claimed", waiting)
    if claimed is not None and claimed > claimed_seconds_max(inbox, counts.in_flight, slots):
        yield _describe(inbox, b"", counts.oldest_claimed, "has been claimed", claimed)


def waiting_seconds_max(inbox: Inbox) -> float:
    """Return the seconds that a file may wait in inbox/ while the watcher has nothing else to claim."""
    unsure = 0.0 if inbox.unsure_seconds == "auto" else inbox.unsure_seconds
    return WAITING_SECONDS + max(inbox.settle_seconds, unsure, inbox.empty_file_seconds)


def claimed_seconds_max(inbox: Inbox, in_flight: int, slots: int) -> float:
    """Return the seconds that a file may be claimed: twice its attempts and delays, plus one attempt of each earlier file."""
    attempt = inbox.time_limit_seconds + HARD_LIMIT_GRACE_SECONDS
    delays = sum(map(inbox.retry_delay, range(inbox.retries)))
    own = max(CLAIMED_SECONDS, 2 * (attempt * (inbox.retries + 1) + delays))
    return own + in_flight // max(slots, 1) * attempt


def _describe(inbox: Inbox, folder: bytes, path: bytes | None, state: str, seconds: float) -> str:
    file = escape(folder + (path or b"?"))
    return f"{inbox.name}: {file} {state} for {format_age(seconds)}; to see why, run `inboxd explain` with its path"
