"""Move without overwriting on file systems without RENAME_NOREPLACE: reserve the name by a symlink, then rename onto it."""

import contextlib
import errno

from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, is_same_file

RESERVATION_PREFIX = b"inboxd-reserved-"
"""Prefix of the target of a symlink that only reserves its name."""


def move_onto_reservation(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move on a file system without RENAME_NOREPLACE (NFS, some FUSE): reserve the name, then rename onto the reservation.

    The reservation is a dangling symlink that names the source's inode, so that only the same source can use it. The rename
    is the step that decides a race.
    """
    stat = disk.stat(src_at, src)
    _reserve(disk, stat, dst_at, dst)
    # If we die here: the name stays reserved for this source; the next attempt uses it, or retention frees it.
    try:
        disk.rename_over(src_at, src, dst_at, dst)
    except FileNotFoundError:
        # another process moved the source, or an NFS server replied so to a repeated rename that had succeeded before
        if not is_same_file(disk.stat(dst_at, dst), stat):
            _release(disk, stat, dst_at, dst)
            raise
    except OSError:
        _release(disk, stat, dst_at, dst)
        raise


def _reserve(disk: Disk, stat: Stat, dst_at: Fd, dst: bytes) -> None:
    # If we die anywhere in this function: a reserved name, as below.
    if stat.kind is FileKind.FOLDER:  # a folder can be renamed only onto an empty folder
        disk.mkdir(dst_at, dst, 0o700)
        return
    try:
        disk.symlink(_reservation_for(stat), dst_at, dst)
    except FileExistsError:
        if not _is_reserved_for(disk, stat, dst_at, dst):
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        disk.close(disk.create(dst_at, dst, 0o600))  # no symlinks on this file system: an empty file reserves the name


def _release(disk: Disk, stat: Stat, dst_at: Fd, dst: bytes) -> None:
    with contextlib.suppress(OSError):
        if _is_reserved_for(disk, stat, dst_at, dst):
            disk.unlink(dst_at, dst)


def _reservation_for(stat: Stat) -> bytes:
    return RESERVATION_PREFIX + b"%d-%d" % (stat.dev, stat.ino)


def _is_reserved_for(disk: Disk, stat: Stat, at: Fd, name: bytes) -> bool:
    return disk.stat(at, name).kind is FileKind.LINK and disk.readlink(at, name) == _reservation_for(stat)


def is_reserved(disk: Disk, at: Fd, name: bytes) -> bool:
    """Return whether an entry is a symlink of inboxd's that only reserves its name."""
    return disk.stat(at, name).kind is FileKind.LINK and disk.readlink(at, name).startswith(RESERVATION_PREFIX)
