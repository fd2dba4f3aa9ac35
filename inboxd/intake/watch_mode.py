"""Derive from a folder's mount whether to use inotify or polling, and how long files must be unchanged."""

import sys
from dataclasses import dataclass

from inboxd.config.rules import Rules
from inboxd.fs.mounts import Mount
from inboxd.intake.readiness import WaitTimes
from inboxd.logs.text import escape

UNSURE_LOCAL_SECONDS, UNSURE_NETWORK_SECONDS = 2.0, 10.0
"""``unsure_seconds = "auto"`` by kind of mount: how long a file must be unchanged where writers can't be detected reliably."""


@dataclass(frozen=True, slots=True)
class WatchMode:
    """How an inbox is watched: inotify or polling, and why."""

    uses_events: bool
    reason: str

    @property
    def name(self) -> str:
        """The mode's name in logs and settings."""
        return "inotify" if self.uses_events else "polling"


def choose_watch_mode(rules: Rules, mount: Mount) -> WatchMode:
    """Return how to watch a folder on this mount."""
    if rules.watch_mode != "auto":
        return WatchMode(rules.watch_mode == "inotify", f"watch_mode = {rules.watch_mode!r}")
    if sys.platform != "linux":
        return WatchMode(uses_events=False, reason="inotify is available on Linux only")
    if mount.is_network:
        return WatchMode(uses_events=False, reason=f"{mount.file_system}: writes may come without inotify events")
    return WatchMode(uses_events=True, reason=f"{mount.file_system}: a local file system")


def wait_times(rules: Rules, mount: Mount) -> WaitTimes:
    """Return how long this inbox's files must be unchanged on this mount."""
    unsure = rules.unsure_seconds
    if unsure == "auto":
        unsure = UNSURE_NETWORK_SECONDS if mount.is_network else UNSURE_LOCAL_SECONDS
    return WaitTimes(
        settle_seconds=rules.settle_seconds,
        unsure_seconds=max(unsure, rules.settle_seconds),
        empty_seconds=max(rules.empty_file_seconds, rules.settle_seconds),
        trusts_leases=not mount.is_network,
    )


def describe_sub_mount(rules: Rules, path: bytes, mount: Mount) -> str:
    """Return a sentence about a mount below inbox/: its files may have to be unchanged for longer than others."""
    waits = wait_times(rules, mount)
    seconds = waits.unsure_seconds if mount.is_network else waits.settle_seconds
    kind = "another host or process may write there unseen" if mount.is_network else "a local file system"
    return f"inbox/{escape(path)} is on {mount.file_system} ({kind}): a file is complete if unchanged for {seconds:g} s"
