"""A FUSE file system that answers as a network mount does: not NFS or CIFS itself, but what programs see of them.

No rename flags; attributes and names that were looked up stay cached for some seconds; a file that vanished on the server
answers ESTALE; what a client writes reaches the server when the file is closed. Run as a program for each client of one server:
``remote_folder.py SOURCE POINT``.
"""

import argparse
import errno
import os
import time
from collections.abc import Iterator
from typing import Any

import mfusepy

STAT_KEYS = (
    "st_atime_ns",
    "st_ctime_ns",
    "st_mtime_ns",
    "st_gid",
    "st_ino",
    "st_mode",
    "st_nlink",
    "st_size",
    "st_uid",
    "st_blocks",
)

STALE_SECONDS = 1.0


class RemoteFolder(mfusepy.Operations):
    """Passes each operation on to ``source``; with ``stale``, a vanished file or folder answers ESTALE for STALE_SECONDS."""

    use_ns = True

    def __init__(self, source: str, *, stale: bool) -> None:
        self._source = source
        self._stale = stale
        self._known: set[str] = set()
        self._stale_until: dict[str, float] = {}
        self._unsent: dict[int, tuple[str, bytearray]] = {}
        """Per open file that is written to: its path, and its content as only this client sees it."""

    def _path(self, path: str) -> str:
        return self._source + path

    def _raise_missing(self, path: str, error: OSError) -> None:
        if error.errno == errno.ENOENT and self._stale:
            if path in self._known:
                self._known.discard(path)
                self._stale_until[path] = time.monotonic() + STALE_SECONDS
            if time.monotonic() < self._stale_until.get(path, 0.0):
                raise mfusepy.FuseOSError(errno.ESTALE) from error
        raise error

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        del fh
        try:
            found = os.lstat(self._path(path))
        except OSError as error:
            self._raise_missing(path, error)
        self._known.add(path)
        attributes = {key.removesuffix("_ns"): getattr(found, key) for key in STAT_KEYS}
        for unsent_path, content in self._unsent.values():
            if unsent_path == path:
                attributes["st_size"] = len(content)
        return attributes

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        del fh
        try:
            with os.scandir(self._path(path)) as entries:
                found = [(entry.name, {"st_ino": entry.inode(), "st_mode": entry.stat(follow_symlinks=False).st_mode}, 0)
                         for entry in entries]  # fmt: skip
        except OSError as error:
            self._raise_missing(path, error)
        yield from found

    def create(self, path: str, mode: int, fi: object = None) -> int:
        del fi
        fd = os.open(self._path(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        self._known.add(path)
        self._unsent[fd] = path, bytearray()
        return fd

    def open(self, path: str, flags: int) -> int:
        try:
            fd = os.open(self._path(path), (flags & ~os.O_APPEND & ~os.O_WRONLY) | (os.O_RDWR if flags & 3 else 0))
        except OSError as error:
            self._raise_missing(path, error)
        if flags & 3:
            self._unsent[fd] = path, bytearray(os.pread(fd, os.fstat(fd).st_size, 0))
        return fd

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        del path
        if fh in self._unsent:
            return bytes(self._unsent[fh][1][offset : offset + size])
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        del path
        content = self._unsent[fh][1]
        content.extend(b"\0" * (offset - len(content)))
        content[offset : offset + len(data)] = data
        return len(data)

    def flush(self, path: str, fh: int) -> int:
        """Send what was written to the server: on close()."""
        del path
        if fh in self._unsent:
            content = bytes(self._unsent[fh][1])
            if os.pread(fh, len(content) + 1, 0) != content:
                os.truncate(fh, len(content))
                os.pwrite(fh, content, 0)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        del datasync
        return self.flush(path, fh)

    def release(self, path: str, fh: int) -> int:
        del path
        self._unsent.pop(fh, None)
        os.close(fh)
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self._path(old), self._path(new))
        self._known.discard(old)
        self._unsent = {
            fh: (new + path.removeprefix(old) if path == old or path.startswith(old + "/") else path, content)
            for fh, (path, content) in self._unsent.items()
        }
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        for fd, (unsent_path, content) in self._unsent.items():
            if unsent_path == path and fh in (None, fd):
                del content[length:]
                content.extend(b"\0" * (length - len(content)))
        os.truncate(self._path(path), length)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._path(path))
        self._known.discard(path)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._path(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._path(path))
        return 0

    def symlink(self, target: str, source: str) -> int:
        os.symlink(source, self._path(target))
        return 0

    def readlink(self, path: str) -> str:
        return os.readlink(self._path(path))

    def link(self, target: str, source: str) -> int:
        os.link(self._path(source), self._path(target))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._path(path), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown(self._path(path), uid, gid, follow_symlinks=False)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._path(path), ns=times, follow_symlinks=False)
        return 0


class NoRenameFlags(mfusepy.FUSE):
    """Refuses every flag of renameat2, as NFS clients do; mfusepy would ignore them, and overwrite."""

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        return -errno.EINVAL if flags else super().rename_fuse_3(old, new, flags)


def main() -> None:
    """Mount SOURCE at POINT, until unmounted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("point")
    parser.add_argument("--cache-seconds", type=float, default=0.0, help="how long attributes and names stay cached")
    parser.add_argument("--stale", action="store_true", help="a file that vanished on the server answers ESTALE")
    options = parser.parse_args()
    cache = dict.fromkeys(("attr_timeout", "entry_timeout"), options.cache_seconds)
    operations = RemoteFolder(options.source, stale=options.stale)
    NoRenameFlags(
        operations, options.point, foreground=True, nothreads=True, use_ino=True, fsname="server", subtype="remote", **cache
    )


if __name__ == "__main__":
    main()
