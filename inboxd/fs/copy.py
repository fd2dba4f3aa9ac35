"""Move a file to another file system: copy, sync, compare, link, and only then remove the source."""

import contextlib
import errno
import hashlib

from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, closing, is_same_file

_CHUNK_BYTES = 1024 * 1024


def move_by_copy(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move a file to another file system. Raises OSError, with the source untouched; EXDEV if the source is not a file."""
    with closing(disk, disk.open_file(src_at, src)) as source:
        stat = disk.fstat(source)
        if stat.kind is not FileKind.FILE:
            raise OSError(errno.EXDEV, f"a {stat.kind} can't be moved to another file system", src)
        if not disk.lock(source):
            raise BlockingIOError(errno.EAGAIN, "another process is moving this file", src)
        if not is_same_file(disk.stat(src_at, src), stat):  # moved by another process between the open and the lock
            raise FileNotFoundError(errno.ENOENT, "another process has moved this file", src)
        key = f"{stat.dev}:{stat.ino}:{stat.size}:{stat.mtime_ns}".encode()
        temp = TEMP_PREFIX + hashlib.sha256(key).hexdigest()[:16].encode() + b".part"
        if not _has_final_name(disk, dst_at, temp):
            _copy(disk, source, stat, dst_at, temp)
            # If we die here: a complete copy under its temporary name only; the next attempt removes it and starts again.
            try:
                disk.link(dst_at, temp, dst_at, dst)
            except OSError:
                disk.unlink(dst_at, temp)
                raise
            disk.fsync(dst_at)
        # If we die here: the second link of temp shows the next attempt that the copy is complete and has its final name.
        disk.unlink(src_at, src)
        # If we die here: the moved file has temp as an additional name; retention removes that.
        disk.unlink(dst_at, temp)


def _has_final_name(disk: Disk, at: Fd, temp: bytes) -> bool:
    """Return whether an earlier attempt linked its copy to a final name in this folder; else remove that attempt's copy."""
    try:
        leftover = disk.stat(at, temp)
    except FileNotFoundError:
        return False
    if leftover.links > 1:  # a link in another folder does not count: a backup may have made it
        names = [name for name, is_folder in disk.entries(at) if not is_folder and name != temp]
        if any(is_same_file(disk.stat(at, name), leftover) for name in names):
            return True
    disk.unlink(at, temp)
    return False


def _copy(disk: Disk, source: Fd, stat: Stat, dst_at: Fd, temp: bytes) -> None:
    """Copy the bytes and the modification time, then read the copy back and compare. Remove the copy on any error."""
    source_digest, copy_digest = hashlib.sha256(), hashlib.sha256()
    # If we die anywhere in this function: a temp with one link, which the next attempt removes.
    try:
        with closing(disk, disk.create(dst_at, temp, stat.mode & 0o777)) as target:
            while chunk := disk.read(source, _CHUNK_BYTES):
                source_digest.update(chunk)
                disk.write(target, chunk)
            disk.set_times(target, stat.mtime_ns)
            disk.fsync(target)
        with closing(disk, disk.open_file(dst_at, temp)) as copy:
            while chunk := disk.read(copy, _CHUNK_BYTES):
                copy_digest.update(chunk)
        if source_digest.digest() != copy_digest.digest():
            raise OSError(errno.EIO, "the copy differs from its source", temp)  # noqa: TRY301 - removed like any other failure
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(dst_at, temp)
        raise
