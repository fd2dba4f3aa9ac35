"""What follows from a folder's mount: inotify or polling, and how long to wait when unsure."""

import sys
from dataclasses import dataclass

from inboxd.config.settings import Rules
from inboxd.fs.mounts import Mount
from inboxd.intake.readiness import Patience

UNSURE_LOCAL_SECONDS = 2.0
UNSURE_NETWORK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Mode:
    """How an inbox is watched: inotify or polling, and why."""

    events: bool
    why: str

    @property
    def name(self) -> str:
        """The word for it in logs and in the settings."""
        return "inotify" if self.events else "polling"


def mode(rules: Rules, mount: Mount) -> Mode:
    """Decide how to watch a folder on this mount."""
    if rules.watch_mode != "auto":
        return Mode(rules.watch_mode == "inotify", f"watch_mode = {rules.watch_mode!r}")
    if sys.platform != "linux":
        return Mode(events=False, why="inotify is Linux's")
    if mount.is_network:
        return Mode(events=False, why=f"{mount.file_system}: others may write there unseen by this system")
    return Mode(events=True, why=f"{mount.file_system}: a local file system")


def patience(rules: Rules, mount: Mount) -> Patience:
    """Return how long this inbox's files wait, on this mount."""
    unsure = rules.unsure_seconds
    if unsure == "auto":
        unsure = UNSURE_NETWORK_SECONDS if mount.is_network else UNSURE_LOCAL_SECONDS
    return Patience(
        settle=rules.settle_seconds,
        unsure=max(unsure, rules.settle_seconds),
        empty=max(rules.empty_file_seconds, rules.settle_seconds),
        trusted=not mount.is_network,
    )
