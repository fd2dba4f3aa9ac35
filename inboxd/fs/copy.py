"""Moving a file to another file system: copy, sync, compare, name, and only then remove the source."""

import contextlib
import errno
import hashlib

from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, closing, is_same_file

_CHUNK_BYTES = 1024 * 1024


def move_by_copy(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move a file to another file system: copy, sync, compare, name, and only then remove the source."""
    with closing(disk, disk.open_file(src_at, src)) as source:
        look = disk.fstat(source)
        if look.kind is not FileKind.FILE:
            raise OSError(errno.EXDEV, f"a {look.kind} can't be moved to another file system", src)
        if not disk.lock(source):
            raise BlockingIOError(errno.EAGAIN, "somebody else is moving it", src)
        if not is_same_file(disk.stat(src_at, src), look):  # between the open and the lock another has moved it
            raise FileNotFoundError(errno.ENOENT, "somebody else has moved it", src)
        key = f"{look.dev}:{look.ino}:{look.size}:{look.mtime_ns}".encode()
        temp = TEMP_PREFIX + hashlib.sha256(key).hexdigest()[:16].encode() + b".part"
        if not _has_final_name(disk, dst_at, temp):
            _copy(disk, source, look, dst_at, temp)
            # If we die here: a whole copy without a name, which the next try removes, to begin anew.
            try:
                disk.link(dst_at, temp, dst_at, dst)
            except OSError:
                disk.unlink(dst_at, temp)
                raise
            disk.fsync(dst_at)
        # If we die here: temp and its second name tell the next try that the copy is whole and has its name.
        disk.unlink(src_at, src)
        # If we die here: temp is one name too many for a filed copy; retention removes it.
        disk.unlink(dst_at, temp)


def _has_final_name(disk: Disk, at: Fd, temp: bytes) -> bool:
    """Tell whether an earlier try got as far as giving its copy a name here; what is left of one that did not is removed."""
    try:
        left = disk.stat(at, temp)
    except FileNotFoundError:
        return False
    if left.links > 1:  # another name may also be a backup's: only one in this folder is ours
        names = [name for name, is_folder in disk.entries(at) if not is_folder and name != temp]
        if any(is_same_file(disk.stat(at, name), left) for name in names):
            return True
    disk.unlink(at, temp)
    return False


def _copy(disk: Disk, source: Fd, look: Stat, dst_at: Fd, temp: bytes) -> None:
    """Copy bytes and modification time, and read them back to compare. On any error the copy is removed."""
    read, copied = hashlib.sha256(), hashlib.sha256()
    # If we die here, or anywhere in this function: a temp with one name, which the next try removes.
    try:
        with closing(disk, disk.create(dst_at, temp, look.mode & 0o777)) as target:
            while chunk := disk.read(source, _CHUNK_BYTES):
                read.update(chunk)
                disk.write(target, chunk)
            disk.set_times(target, look.mtime_ns)
            disk.fsync(target)
        with closing(disk, disk.open_file(dst_at, temp)) as written:
            while chunk := disk.read(written, _CHUNK_BYTES):
                copied.update(chunk)
        if read.digest() != copied.digest():
            raise OSError(errno.EIO, "the copy differs from its source", temp)  # noqa: TRY301 - removed like any other failure
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(dst_at, temp)
        raise
