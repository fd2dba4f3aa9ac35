"""The only door to the disk: one method, one system call. Folders are file descriptors, names are bytes.

Every method raises OSError as the system gives it. Nothing here follows a symlink, blocks on a FIFO, or overwrites a name.
"""

import ctypes
import errno
import fcntl
import io
import os
import signal
import stat as mode_bits
import sys
from collections.abc import Iterator
from enum import Enum, StrEnum
from pathlib import PurePath
from typing import BinaryIO, NamedTuple

Fd = int

_READ_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER_BYTES = 64 * 1024
_NOREPLACE = 1
_NOREPLACE_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


class FileKind(StrEnum):
    """What an entry of a folder is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    FIFO = "named pipe"
    SOCKET = "socket"
    DEVICE = "device"


class WriterCheck(Enum):
    """Has nobody a file open for writing? FUSE and network mounts may say FREE without knowing."""

    FREE = "free"
    BUSY = "busy"
    UNKNOWN = "unknown"


class Stat(NamedTuple):
    """What the system says of an entry. Times are nanoseconds of the file system's own clock; sizes are bytes."""

    kind: FileKind
    size: int
    allocated: int
    mtime_ns: int
    ctime_ns: int
    dev: int
    ino: int
    links: int
    uid: int
    mode: int


class NoReplaceUnsupported(OSError):
    """This file system has no rename that refuses to overwrite."""


_FILE_KINDS = {
    mode_bits.S_IFREG: FileKind.FILE,
    mode_bits.S_IFDIR: FileKind.FOLDER,
    mode_bits.S_IFLNK: FileKind.LINK,
    mode_bits.S_IFIFO: FileKind.FIFO,
    mode_bits.S_IFSOCK: FileKind.SOCKET,
}


def _to_stat(raw: os.stat_result) -> Stat:
    kind = _FILE_KINDS.get(mode_bits.S_IFMT(raw.st_mode), FileKind.DEVICE)
    return Stat(
        kind, raw.st_size, raw.st_blocks * 512, raw.st_mtime_ns, raw.st_ctime_ns,
        raw.st_dev, raw.st_ino, raw.st_nlink, raw.st_uid, mode_bits.S_IMODE(raw.st_mode),
    )  # fmt: skip


_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)  # Linux with glibc 2.28 or musl 1.2.5


def ignore_lease_breaks() -> None:
    """Ignore SIGIO: its default action kills whoever holds a lease while a writer opens the file. Main thread only."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


class Disk:
    """The system calls. Has no state; tests hand in one that fails on purpose."""

    # folders

    def open_root(self, path: PurePath) -> Fd:
        """Open a folder by its path, following links: the administrator named it."""
        return os.open(path, _READ_FOLDER)

    def open_folder(self, at: Fd, name: bytes) -> Fd:
        """Open a folder inside another one; a symlink is refused (ELOOP or ENOTDIR)."""
        return os.open(name, _READ_FOLDER | os.O_NOFOLLOW, dir_fd=at)

    def close(self, fd: Fd) -> None:
        """Close what was opened."""
        os.close(fd)

    def entries(self, at: Fd) -> Iterator[tuple[bytes, bool]]:
        """Yield each entry's name and whether it is a real folder, in no order, one at a time."""
        with os.scandir(at) as found:
            for entry in found:
                yield os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)

    def mkdir(self, at: Fd, name: bytes, mode: int) -> None:
        """Make a folder; FileExistsError if the name is taken."""
        os.mkdir(name, mode, dir_fd=at)

    def rmdir(self, at: Fd, name: bytes) -> None:
        """Remove an empty folder; ENOTEMPTY otherwise."""
        os.rmdir(name, dir_fd=at)

    def make_path(self, path: PurePath) -> None:
        """Make a folder and its parents by path, as an administrator would."""
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - PurePath by design

    def touch(self, fd: Fd) -> None:
        """Set the times of what is open to now, by the file system's own clock."""
        os.utime(fd)

    # entries

    def stat(self, at: Fd, name: bytes) -> Stat:
        """Look at an entry itself, not at what it links to."""
        return _to_stat(os.stat(name, dir_fd=at, follow_symlinks=False))

    def fstat(self, fd: Fd) -> Stat:
        """Look at what is open."""
        return _to_stat(os.fstat(fd))

    def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Rename without overwriting.

        Raises FileExistsError if ``dst`` is taken, FileNotFoundError if ``src`` is gone, and CantNoReplace where the file
        system has no such rename.
        """
        if _renameat2 is None:
            raise NoReplaceUnsupported(errno.ENOSYS, "no renameat2")
        if _renameat2(src_at, src, dst_at, dst, _NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code in _NOREPLACE_UNSUPPORTED:
            raise NoReplaceUnsupported(code, os.strerror(code))
        raise OSError(code, os.strerror(code), os.fsdecode(src))

    def rename_over(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Rename, and replace what is there: for names that are reserved by our own empty file or folder."""
        os.rename(src, dst, src_dir_fd=src_at, dst_dir_fd=dst_at)

    def symlink(self, target: bytes, at: Fd, name: bytes) -> None:
        """Make a symbolic link; FileExistsError if the name is taken."""
        os.symlink(target, name, dir_fd=at)

    def readlink(self, at: Fd, name: bytes) -> bytes:
        """Return where a symbolic link leads, without going there."""
        return os.readlink(name, dir_fd=at)

    def link(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Give an entry a second name; FileExistsError if that name is taken."""
        os.link(src, dst, src_dir_fd=src_at, dst_dir_fd=dst_at, follow_symlinks=False)

    def unlink(self, at: Fd, name: bytes) -> None:
        """Remove a name that is no folder."""
        os.unlink(name, dir_fd=at)

    # files

    def open_file(self, at: Fd, name: bytes) -> Fd:
        """Open a file for reading: never a link's target, never waiting for a FIFO's other end."""
        return os.open(name, _READ_FILE, dir_fd=at)

    def reader(self, fd: Fd) -> BinaryIO:
        """Wrap an open file in a buffered reader, which closes it."""
        return io.BufferedReader(io.FileIO(fd), _BUFFER_BYTES)

    def create(self, at: Fd, name: bytes, mode: int, *, append: bool = False) -> Fd:
        """Create and open a file for writing, or for writing at its end only; FileExistsError if the name is taken."""
        return os.open(name, _NEW_FILE | (os.O_APPEND if append else 0), mode, dir_fd=at)

    def read(self, fd: Fd, size: int) -> bytes:
        """Read at most ``size`` bytes from where the last read ended; b"" at the end."""
        return os.read(fd, size)

    def write(self, fd: Fd, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def truncate(self, fd: Fd) -> None:
        """Make what is open for writing empty."""
        os.ftruncate(fd, 0)

    def set_times(self, fd: Fd, mtime_ns: int) -> None:
        """Set the modification time of what is open."""
        os.utime(fd, ns=(mtime_ns, mtime_ns))

    def fsync(self, fd: Fd) -> None:
        """Bring a file, or a folder's names, to the disk itself."""
        os.fsync(fd)

    def lock(self, fd: Fd) -> bool:
        """Take the exclusive advisory lock of what is open, until it is closed; False if somebody holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def check_writers(self, fd: Fd) -> WriterCheck:
        """Ask whether anybody has the file open for writing, by taking a read lease for a microsecond.

        A file of another user needs CAP_LEASE. ``ignore_lease_breaks`` must have been called.
        """
        if sys.platform != "linux":
            return WriterCheck.UNKNOWN
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return WriterCheck.BUSY
        except OSError:
            return WriterCheck.UNKNOWN
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return WriterCheck.FREE

    # mounts

    def mount_id(self, fd: Fd) -> int:
        """Return the id of the mount that an open folder is on (Linux); elsewhere its device number."""
        try:
            info = self.read_text(PurePath(f"/proc/self/fdinfo/{fd}"))
        except FileNotFoundError:
            return os.fstat(fd).st_dev
        return next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("mnt_id:"))

    def read_text(self, path: PurePath) -> str:
        """Read a small file of the system's, such as one below /proc."""
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:  # noqa: PTH123 - PurePath by design
            return file.read()


class closing:  # noqa: N801 - read as a word: with held(disk, fd)
    """Closes a descriptor at the end of a with block."""

    __slots__ = ("_disk", "_fd")

    def __init__(self, disk: Disk, fd: Fd) -> None:
        self._disk = disk
        self._fd = fd

    def __enter__(self) -> Fd:
        return self._fd

    def __exit__(self, *_raised: object) -> None:
        self._disk.close(self._fd)


def is_same_file(one: Stat, other: Stat) -> bool:
    """Return whether two looks were at one file: the same inode of the same device."""
    return (one.dev, one.ino) == (other.dev, other.ino)
