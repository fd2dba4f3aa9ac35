"""Move a file to another file system: copy, sync, compare, link, check the source again, and only then remove it."""

import contextlib
import errno
import hashlib

from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, WriterCheck, closing, is_same_file

_CHUNK_BYTES = 1024 * 1024


def move_to_other_mount(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move a file or a symbolic link to another file system; see ``move_by_copy``."""
    if disk.stat(src_at, src).kind is not FileKind.LINK:
        move_by_copy(disk, src_at, src, dst_at, dst)
        return
    # If we die before the unlink: the link is in both folders, and is refused twice.
    disk.symlink(disk.readlink(src_at, src), dst_at, dst)
    disk.unlink(src_at, src)


def move_by_copy(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move a file to another file system. Raises OSError, with the source untouched and no copy left.

    The error is EXDEV if the source is not a file, and BlockingIOError if a program writes to it, or has done so meanwhile. A
    kernel lease on the source shows writers on a local file system; elsewhere only the file's size and times do.
    """
    with closing(disk, disk.open_file(src_at, src)) as source:
        stat, writers = _lock(disk, source, src_at, src)
        temp = temp_name(stat)
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
        try:
            if not _is_unchanged(disk, source, stat, writers):
                raise BlockingIOError(errno.EAGAIN, "the file was written to while it was copied", src)
            disk.unlink(src_at, src)
        except OSError:
            _undo(disk, dst_at, dst, temp)
            raise
        # If we die here: the moved file has temp as an additional name; retention removes that.
        disk.unlink(dst_at, temp)


def copy_over(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move a file to another file system, and replace the file that has its name there.

    Raises OSError, with the source untouched.
    """
    with closing(disk, disk.open_file(src_at, src)) as source:
        stat, _ = _lock(disk, source, src_at, src)
        temp = temp_name(stat)
        with contextlib.suppress(FileNotFoundError):  # of an earlier attempt
            disk.unlink(dst_at, temp)
        _copy(disk, source, stat, dst_at, temp)
        # If we die here: a complete copy under its temporary name only; the next attempt removes it and starts again.
        disk.rename_over(dst_at, temp, dst_at, dst)
        disk.fsync(dst_at)
        # If we die here: the next attempt replaces the copy by another one.
        disk.unlink(src_at, src)


def temp_name(source: Stat) -> bytes:
    """Return the temporary name of a copy, by which a later attempt recognizes the source."""
    key = f"{source.dev}:{source.ino}:{source.size}:{source.mtime_ns}".encode()
    return TEMP_PREFIX + hashlib.sha256(key).hexdigest()[:16].encode() + b".part"


def complete_move(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd) -> bool:
    """Remove the source of a move by copy that died before it did so; return whether ``dst_at`` has the complete copy.

    Raises OSError, with the source untouched: FileNotFoundError if it is gone, BlockingIOError if a program writes to it.
    """
    with closing(disk, disk.open_file(src_at, src)) as source:
        stat, writers = _lock(disk, source, src_at, src)
        temp = temp_name(stat)
        if not _has_final_name(disk, dst_at, temp):
            return False
        if not _is_unchanged(disk, source, stat, writers):
            raise BlockingIOError(errno.EAGAIN, "the file is being written to", src)
        # If we die here, or below: as in move_by_copy.
        disk.unlink(src_at, src)
        disk.unlink(dst_at, temp)
    return True


def _lock(disk: Disk, source: Fd, src_at: Fd, src: bytes) -> tuple[Stat, WriterCheck]:
    """Lock an open source against other copies and, if its file system can, against writers; return its stat."""
    stat = disk.fstat(source)
    if stat.kind is not FileKind.FILE:
        raise OSError(errno.EXDEV, f"a {stat.kind} can't be moved to another file system", src)
    if not disk.lock(source):
        raise BlockingIOError(errno.EAGAIN, "another process is moving this file", src)
    if not is_same_file(disk.stat(src_at, src), stat):  # moved by another process between the open and the lock
        raise FileNotFoundError(errno.ENOENT, "another process has moved this file", src)
    writers = disk.hold_lease(source)
    if writers is WriterCheck.BUSY:
        raise BlockingIOError(errno.EAGAIN, "a program has this file open for writing", src)
    return stat, writers


def _is_unchanged(disk: Disk, source: Fd, stat: Stat, writers: WriterCheck) -> bool:
    """Return whether nobody has written to the source, or waits for its lease to do so."""
    has_lease = writers is not WriterCheck.FREE or disk.has_lease(source)
    return has_lease and _version(disk.fstat(source)) == _version(stat)


def _version(stat: Stat) -> tuple[int, int, int]:
    return stat.size, stat.mtime_ns, stat.ctime_ns


def _undo(disk: Disk, dst_at: Fd, dst: bytes, temp: bytes) -> None:
    """Remove a complete copy whose source stays."""
    with contextlib.suppress(FileNotFoundError):
        if is_same_file(disk.stat(dst_at, dst), disk.stat(dst_at, temp)):
            # If we die here: the next attempt removes the copy, which has only its temporary name.
            disk.unlink(dst_at, dst)
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
