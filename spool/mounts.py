"""What kind of mount a folder is on, and what follows: inotify or polling, whose clock, and how long to wait when unsure."""

import sys
from dataclasses import dataclass
from pathlib import PurePath

from spool.disk import Disk, Fd, held
from spool.readiness import Patience
from spool.settings import Rules

UNSURE_LOCAL_SECONDS = 2.0
UNSURE_NETWORK_SECONDS = 10.0

LOCAL = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "bcachefs", "jfs", "reiserfs", "overlay", "hfs",
    "apfs",
})  # fmt: skip
"""Kinds whose every change passes through this kernel. Overlay counts: droppers write through the same mount."""

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: its id, the kind of its file system, and where it is mounted."""

    id: int
    kind: str
    point: str

    @property
    def network(self) -> bool:
        """Whether others may write there without this kernel's knowledge: network, FUSE, shared and unknown kinds."""
        return self.kind not in LOCAL


@dataclass(frozen=True, slots=True)
class Mode:
    """How an inbox is watched: inotify or polling, and why."""

    events: bool
    why: str

    @property
    def name(self) -> str:
        """The word for it in logs and in the settings."""
        return "inotify" if self.events else "polling"


def mount_of(disk: Disk, folder: Fd) -> Mount:
    """Find the mount that an open folder is on, exactly: bind mounts and mounts upon mounts too."""
    number = disk.mount_id(folder)
    if sys.platform != "linux":
        return Mount(number, _UNKNOWN, "")
    for line in filter(None, table(disk).split("\n")):
        fields = line.split(" ")
        if int(fields[0]) == number:
            return Mount(number, fields[fields.index("-") + 1], fields[4])
    return Mount(number, _UNKNOWN, "")


def table(disk: Disk) -> str:
    """Return the system's table of mounts, in its own words; "" where it has none. Mounts are the same while it is.

    Raises OSError.
    """
    return disk.read_text(PurePath("/proc/self/mountinfo")) if sys.platform == "linux" else ""


def mount_at(disk: Disk, path: PurePath) -> Mount:
    """Find the mount that a folder is on. Raises OSError if the folder can't be opened."""
    with held(disk, disk.open_root(path)) as folder:
        return mount_of(disk, folder)


def mode(rules: Rules, mount: Mount) -> Mode:
    """Decide how to watch a folder on this mount."""
    if rules.watch_mode != "auto":
        return Mode(rules.watch_mode == "inotify", f"watch_mode = {rules.watch_mode!r}")
    if sys.platform != "linux":
        return Mode(events=False, why="inotify is Linux's")
    if mount.network:
        return Mode(events=False, why=f"{mount.kind}: others may write there unseen by this system")
    return Mode(events=True, why=f"{mount.kind}: a local file system")


def patience(rules: Rules, mount: Mount) -> Patience:
    """Return how long this inbox's files wait, on this mount."""
    unsure = rules.unsure_seconds
    if unsure == "auto":
        unsure = UNSURE_NETWORK_SECONDS if mount.network else UNSURE_LOCAL_SECONDS
    return Patience(
        settle=rules.settle_seconds,
        unsure=max(unsure, rules.settle_seconds),
        empty=max(rules.empty_file_seconds, rules.settle_seconds),
        trusted=not mount.network,
    )
