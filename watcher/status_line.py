"""What the watcher is about, in words for `systemctl status`; pure."""

from collections.abc import Iterable

from inboxd.watcher.watched_inbox import Drop


def status(drops: Iterable[Drop], paused: str | None) -> str:
    """Say which inboxes are watched and how; ``paused`` is why nothing is claimed just now."""
    each = ", ".join(f"{drop.inbox.name} ({_one(drop)})" for drop in drops)
    watched = f"watching {each}" if each else "watching nothing"
    return f"paused, nothing is claimed: {paused}; {watched}" if paused is not None else watched


def _one(drop: Drop) -> str:
    if drop.trouble is not None:
        return f"waits: {drop.trouble}"
    return f"{drop.mode.name}, files wait for their turn" if drop.busy else drop.mode.name
