"""Opens a file for a handler: a small one is read at once, a larger one as it is needed."""

import errno
import hashlib
import io

from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat

BUFFERED_BYTES_MAX = 64 * 1024
"""Maximum size of a file that is read at its opening: an unread stream takes twice as many system calls."""


def open_stream(disk: Disk, file: Fd) -> tuple[Stat, io.BufferedIOBase]:
    """Return an open file's stat and a stream that owns the descriptor; close the descriptor on an error.

    Raises OSError if it is not a regular file.
    """
    try:
        stat = disk.fstat(file)
        _require_regular(stat)
        chunks, unread = [], stat.size if stat.size <= BUFFERED_BYTES_MAX else 0
        while unread > 0 and (chunk := disk.read(file, unread)):
            chunks.append(chunk)
            unread -= len(chunk)
    except BaseException:
        disk.close(file)
        raise
    if stat.size > BUFFERED_BYTES_MAX:
        return stat, disk.reader(file)
    disk.close(file)
    return stat, io.BytesIO(b"".join(chunks))


def _require_regular(stat: Stat) -> None:
    if stat.kind is not FileKind.FILE:
        raise OSError(errno.EINVAL, f"not a regular file, but a {stat.kind}")


def file_id(inbox: str, path: bytes, stat: Stat) -> str:
    """Return a file's id, by which a handler can be idempotent: every delivery of one dropped file has the same id.

    The id is a hash of what a claim, a retry and a restart leave unchanged: inbox, path, inode, modification time, size.
    """
    key = b"\0".join([inbox.encode(), path, b"%d %d %d" % (stat.ino, stat.mtime_ns, stat.size)])
    return hashlib.blake2b(key, digest_size=16).hexdigest()
