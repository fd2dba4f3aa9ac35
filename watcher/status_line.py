"""The watcher's status line for `systemctl status`. Pure."""

from collections.abc import Iterable

from inboxd.watcher.watched_inbox import WatchedInbox


def status_line(inboxes: Iterable[WatchedInbox], pause_reason: str | None) -> str:
    """Return which inboxes are watched and how; ``pause_reason`` is why nothing is claimed now, None if files are."""
    listed = ", ".join(f"{watched.inbox.name} ({_describe(watched)})" for watched in inboxes)
    status = f"watching {listed or 'no inbox'}"
    return status if pause_reason is None else f"paused, nothing is claimed: {pause_reason}; {status}"


def _describe(watched: WatchedInbox) -> str:
    if watched.outage is not None:
        return f"unavailable: {watched.outage}"
    return f"{watched.mode.name}, files are waiting" if watched.is_busy else watched.mode.name
