"""What follows from a folder's mount: inotify or polling, and how long to wait when unsure."""

import sys
from dataclasses import dataclass

from inboxd.config.settings import Rules
from inboxd.fs.mounts import Mount
from inboxd.intake.readiness import WaitTimes

UNSURE_LOCAL_SECONDS = 2.0
UNSURE_NETWORK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class WatchMode:
    """How an inbox is watched: inotify or polling, and why."""

    uses_events: bool
    reason: str

    @property
    def name(self) -> str:
        """The word for it in logs and in the settings."""
        return "inotify" if self.uses_events else "polling"


def choose_watch_mode(rules: Rules, mount: Mount) -> WatchMode:
    """Decide how to watch a folder on this mount."""
    if rules.watch_mode != "auto":
        return WatchMode(rules.watch_mode == "inotify", f"watch_mode = {rules.watch_mode!r}")
    if sys.platform != "linux":
        return WatchMode(uses_events=False, reason="inotify is Linux's")
    if mount.is_network:
        return WatchMode(uses_events=False, reason=f"{mount.file_system}: others may write there unseen by this system")
    return WatchMode(uses_events=True, reason=f"{mount.file_system}: a local file system")


def wait_times(rules: Rules, mount: Mount) -> WaitTimes:
    """Return how long this inbox's files wait, on this mount."""
    unsure = rules.unsure_seconds
    if unsure == "auto":
        unsure = UNSURE_NETWORK_SECONDS if mount.is_network else UNSURE_LOCAL_SECONDS
    return WaitTimes(
        settle_seconds=rules.settle_seconds,
        unsure_seconds=max(unsure, rules.settle_seconds),
        empty_seconds=max(rules.empty_file_seconds, rules.settle_seconds),
        trusts_leases=not mount.is_network,
    )
