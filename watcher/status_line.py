"""What the watcher is about, in words for `systemctl status`; pure."""

from collections.abc import Iterable

from inboxd.watcher.watched_inbox import WatchedInbox


def status_line(inboxes: Iterable[WatchedInbox], paused: str | None) -> str:
    """Say which inboxes are watched and how; ``paused`` is why nothing is claimed just now."""
    each = ", ".join(f"{watched.inbox.name} ({_describe(watched)})" for watched in inboxes)
    watched = f"watching {each}" if each else "watching nothing"
    return f"paused, nothing is claimed: {paused}; {watched}" if paused is not None else watched


def _describe(watched: WatchedInbox) -> str:
    if watched.outage is not None:
        return f"waits: {watched.outage}"
    return f"{watched.mode.name}, files wait for their turn" if watched.is_busy else watched.mode.name
