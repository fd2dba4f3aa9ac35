"""Find the mount that a folder is on and the type of its file system."""

import sys
from dataclasses import dataclass
from pathlib import PurePath

from inboxd.fs.syscalls import Disk, Fd, closing

LOCAL_FILE_SYSTEMS = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "bcachefs", "jfs", "reiserfs", "overlay", "hfs",
    "apfs",
})  # fmt: skip
"""File systems that only this kernel changes. Overlay is included because droppers write through the same mount."""

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: its id, its file system type, and its mount point."""

    id: int
    file_system: str
    point: str

    @property
    def is_network(self) -> bool:
        """Whether other hosts or processes may write unseen by this kernel: network, FUSE, shared and unknown file systems."""
        return self.file_system not in LOCAL_FILE_SYSTEMS


def find_mount(disk: Disk, folder: Fd) -> Mount:
    """Return the mount that an open folder is on, by its mount id: also right for bind mounts and stacked mounts."""
    mount_id = disk.mount_id(folder)
    if sys.platform != "linux":
        return Mount(mount_id, _UNKNOWN, "")
    for line in filter(None, read_mount_table(disk).split("\n")):
        fields = line.split(" ")
        if int(fields[0]) == mount_id:
            return Mount(mount_id, fields[fields.index("-") + 1], fields[4])
    return Mount(mount_id, _UNKNOWN, "")


def read_mount_table(disk: Disk) -> str:
    """Return the kernel's mount table, unparsed; "" on other systems than Linux. An equal text means equal mounts.

    Raises OSError.
    """
    return disk.read_text(PurePath("/proc/self/mountinfo")) if sys.platform == "linux" else ""


def find_mount_of_path(disk: Disk, path: PurePath) -> Mount:
    """Return the mount that a folder is on. Raises OSError if the folder can't be opened."""
    with closing(disk, disk.open_root(path)) as folder:
        return find_mount(disk, folder)
