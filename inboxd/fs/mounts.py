"""What kind of mount a folder is on."""

import sys
from dataclasses import dataclass
from pathlib import PurePath

from inboxd.fs.syscalls import Disk, Fd, closing

LOCAL_FILE_SYSTEMS = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "bcachefs", "jfs", "reiserfs", "overlay", "hfs",
    "apfs",
})  # fmt: skip
"""Kinds whose every change passes through this kernel. Overlay counts: droppers write through the same mount."""

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: its id, the kind of its file system, and where it is mounted."""

    id: int
    file_system: str
    point: str

    @property
    def is_network(self) -> bool:
        """Whether others may write there without this kernel's knowledge: network, FUSE, shared and unknown kinds."""
        return self.file_system not in LOCAL_FILE_SYSTEMS


def find_mount(disk: Disk, folder: Fd) -> Mount:
    """Find the mount that an open folder is on, exactly: bind mounts and mounts upon mounts too."""
    number = disk.mount_id(folder)
    if sys.platform != "linux":
        return Mount(number, _UNKNOWN, "")
    for line in filter(None, read_mount_table(disk).split("\n")):
        fields = line.split(" ")
        if int(fields[0]) == number:
            return Mount(number, fields[fields.index("-") + 1], fields[4])
    return Mount(number, _UNKNOWN, "")


def read_mount_table(disk: Disk) -> str:
    """Return the system's table of mounts, in its own words; "" where it has none. Mounts are the same while it is.

    Raises OSError.
    """
    return disk.read_text(PurePath("/proc/self/mountinfo")) if sys.platform == "linux" else ""


def find_mount_of_path(disk: Disk, path: PurePath) -> Mount:
    """Find the mount that a folder is on. Raises OSError if the folder can't be opened."""
    with closing(disk, disk.open_root(path)) as folder:
        return find_mount(disk, folder)
