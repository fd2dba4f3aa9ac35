"""Find the mount that a folder is on and the type of its file system."""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from inboxd.fs.syscalls import Disk, Fd, closing

LOCAL_FILE_SYSTEMS = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "bcachefs", "jfs", "reiserfs", "overlay", "hfs",
    "apfs",
})  # fmt: skip
"""File systems that only this kernel changes. Overlay is included because droppers write through the same mount."""

_UNKNOWN = "unknown"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: its id, its file system type, and its mount point."""

    id: int
    file_system: str
    point: str

    @property
    def name(self) -> str:
        """The mount's name for people, also different from that of another mount on the same point, before or after it."""
        return f"{self.point} (mount {self.id})"

    @property
    def is_network(self) -> bool:
        """Whether other hosts or processes may write unseen by this kernel: network, FUSE, shared and unknown file systems."""
        return self.file_system not in LOCAL_FILE_SYSTEMS


def find_mount(disk: Disk, folder: Fd) -> Mount:
    """Return the mount that an open folder is on, by its mount id: also right for bind mounts and stacked mounts."""
    mount_id = disk.mount_id(folder)
    if sys.platform != "linux":
        return Mount(mount_id, _UNKNOWN, "")
    found = (mount for mount in parse_mount_table(read_mount_table(disk)) if mount.id == mount_id)
    return next(found, Mount(mount_id, _UNKNOWN, ""))


def parse_mount_table(table: str) -> Iterator[Mount]:
    """Yield the mounts of a mount table in its order: of two on one point, the later one covers the earlier."""
    for line in filter(None, table.split("\n")):
        fields = line.split(" ")
        yield Mount(int(fields[0]), fields[fields.index("-") + 1], _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))


def covering_mount(mounts: Iterable[Mount], path: PurePath) -> Mount:
    """Return the mount that an absolute path without links is on, without touching it."""
    found, inside = Mount(0, _UNKNOWN, ""), f"{path}/"
    for mount in mounts:
        if inside.startswith(_as_prefix(mount.point)) and len(mount.point) >= len(found.point):
            found = mount
    return found


def mounts_below(mounts: Iterable[Mount], path: PurePath) -> dict[PurePath, Mount]:
    """Return the mounts below an absolute path without links, by their path relative to it."""
    prefix = _as_prefix(str(path))
    points = {mount.point: mount for mount in mounts if mount.point.startswith(prefix)}
    return {PurePath(point).relative_to(path): mount for point, mount in points.items()}


def _as_prefix(folder: str) -> str:
    return folder if folder.endswith("/") else folder + "/"


def read_mount_table(disk: Disk) -> str:
    """Return the kernel's mount table, unparsed; "" on other systems than Linux. An equal text means equal mounts.

    Raises OSError.
    """
    return disk.read_text(PurePath("/proc/self/mountinfo")) if sys.platform == "linux" else ""


def find_mount_of_path(disk: Disk, path: PurePath) -> Mount:
    """Return the mount that a folder is on. Raises OSError if the folder can't be opened."""
    with closing(disk, disk.open_root(path)) as folder:
        return find_mount(disk, folder)
