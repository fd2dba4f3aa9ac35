"""Moving where no rename refuses to overwrite: a name is reserved by a link, and the source renamed onto it."""

import contextlib
import errno

from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, is_same_file

RESERVATION_PREFIX = b"inboxd-reserved-"
"""Where a link that only reserves its name leads to."""


def move_onto_reservation(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move where no rename refuses to overwrite (NFS, some FUSE): reserve the name, then rename onto what reserves it.

    A name is reserved by a dangling link that names the source's inode: only the same source takes it over. The rename alone
    decides, as everywhere.
    """
    look = disk.stat(src_at, src)
    _reserve(disk, look, dst_at, dst)
    # If we die here: the name stays reserved for this source; the next try takes it, or retention frees it.
    try:
        disk.rename_over(src_at, src, dst_at, dst)
    except FileNotFoundError:
        # an NFS server may answer so to the repetition of a rename that it has done already; else another was quicker
        if not is_same_file(disk.stat(dst_at, dst), look):
            _release(disk, look, dst_at, dst)
            raise
    except OSError:
        _release(disk, look, dst_at, dst)
        raise


def _reserve(disk: Disk, look: Stat, dst_at: Fd, dst: bytes) -> None:
    # If we die here, or in these steps: a name that is reserved, as below.
    if look.kind is FileKind.FOLDER:  # a folder is renamed onto an empty one only
        disk.mkdir(dst_at, dst, 0o700)
        return
    try:
        disk.symlink(_reservation_for(look), dst_at, dst)
    except FileExistsError:
        if not _is_reserved_for(disk, look, dst_at, dst):
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        disk.close(disk.create(dst_at, dst, 0o600))  # no links here either: an empty file will do


def _release(disk: Disk, look: Stat, dst_at: Fd, dst: bytes) -> None:
    with contextlib.suppress(OSError):
        if _is_reserved_for(disk, look, dst_at, dst):
            disk.unlink(dst_at, dst)


def _reservation_for(look: Stat) -> bytes:
    return RESERVATION_PREFIX + b"%d-%d" % (look.dev, look.ino)


def _is_reserved_for(disk: Disk, look: Stat, at: Fd, name: bytes) -> bool:
    return disk.stat(at, name).kind is FileKind.LINK and disk.readlink(at, name) == _reservation_for(look)


def is_reserved(disk: Disk, at: Fd, name: bytes) -> bool:
    """Tell whether a name is only reserved: by a link of ours that leads nowhere."""
    return disk.stat(at, name).kind is FileKind.LINK and disk.readlink(at, name).startswith(RESERVATION_PREFIX)
