"""The only module with file system calls, one method for each. Folders are descriptors (``at``), names are bytes.

Each method raises the kernel's OSError. Unless its docstring says so, none follows a symlink, blocks on a FIFO or overwrites.
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
from typing import NamedTuple

Fd = int

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER_BYTES = 64 * 1024
_RENAME_NOREPLACE = 1
_NOREPLACE_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


class FileKind(StrEnum):
    """The type of a directory entry."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    FIFO = "named pipe"
    SOCKET = "socket"
    DEVICE = "device"


class WriterCheck(Enum):
    """Whether a process has a file open for writing. On FUSE and network mounts, FREE is unreliable."""

    FREE = "free"
    BUSY = "busy"
    UNKNOWN = "unknown"


class Stat(NamedTuple):
    """The metadata of an entry. Times are nanoseconds by the file system's clock; sizes are bytes."""

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
    """This file system does not support RENAME_NOREPLACE, a rename that refuses to overwrite."""


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
    """Ignore SIGIO, whose default action kills the holder of a file lease when a writer opens the file. Main thread only."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Error numbers that say nothing of the file or folder: this process, or the system, has no descriptor or memory left."""

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, and no longer of the init process (Linux)."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Disk:
    """The file system calls, without state. Tests pass a subclass that fails on purpose."""

    # folders

    def open_root(self, path: PurePath) -> Fd:
        """Open a folder by its path; symlinks are followed, because the administrator chose the path."""
        return os.open(path, _FOLDER_FLAGS)

    def open_folder(self, at: Fd, name: bytes) -> Fd:
        """Open a folder inside another one. Raises ELOOP or ENOTDIR for a symlink."""
        return os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=at)

    def close(self, fd: Fd) -> None:
        """Close a descriptor."""
        os.close(fd)

    def entries(self, at: Fd) -> Iterator[tuple[bytes, bool]]:
        """Yield each entry's name and whether it is a folder (a symlink to one is not), unsorted, without reading ahead."""
        with os.scandir(at) as entries:
            for entry in entries:
                yield os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)

    def mkdir(self, at: Fd, name: bytes, mode: int) -> None:
        """Create a folder. Raises FileExistsError if the name is taken."""
        os.mkdir(name, mode, dir_fd=at)

    def rmdir(self, at: Fd, name: bytes) -> None:
        """Remove an empty folder. Raises ENOTEMPTY for a folder with contents."""
        os.rmdir(name, dir_fd=at)

    def real_path(self, path: PurePath) -> PurePath:
        """Return an absolute path with its links resolved, as far as it exists."""
        return PurePath(os.path.realpath(path))

    def make_path(self, path: PurePath) -> None:
        """Create a folder and its parents by path; symlinks are followed."""
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - PurePath by design

    def touch(self, fd: Fd) -> None:
        """Set the times of an open file or folder to now, by the file system's clock."""
        os.utime(fd)

    # entries

    def stat(self, at: Fd, name: bytes) -> Stat:
        """Return the metadata of an entry; of a symlink itself, not of its target."""
        return _to_stat(os.stat(name, dir_fd=at, follow_symlinks=False))

    def fstat(self, fd: Fd) -> Stat:
        """Return the metadata of an open file or folder."""
        return _to_stat(os.fstat(fd))

    def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Rename without overwriting.

        Raises FileExistsError if ``dst`` is taken, FileNotFoundError if ``src`` is missing, and NoReplaceUnsupported if the
        file system or the C library has no RENAME_NOREPLACE.
        """
        if _renameat2 is None:
            raise NoReplaceUnsupported(errno.ENOSYS, "the C library has no renameat2")
        if _renameat2(src_at, src, dst_at, dst, _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code in _NOREPLACE_UNSUPPORTED:
            raise NoReplaceUnsupported(code, os.strerror(code))
        raise OSError(code, os.strerror(code), os.fsdecode(src))

    def rename_over(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Rename and overwrite: for names in a new parcel, or reserved by inboxd's own symlink, empty file or empty folder."""
        os.rename(src, dst, src_dir_fd=src_at, dst_dir_fd=dst_at)

    def symlink(self, target: bytes, at: Fd, name: bytes) -> None:
        """Create a symlink. Raises FileExistsError if the name is taken."""
        os.symlink(target, name, dir_fd=at)

    def readlink(self, at: Fd, name: bytes) -> bytes:
        """Return the target of a symlink."""
        return os.readlink(name, dir_fd=at)

    def link(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Create a hard link. Raises FileExistsError if the name ``dst`` is taken."""
        os.link(src, dst, src_dir_fd=src_at, dst_dir_fd=dst_at, follow_symlinks=False)

    def unlink(self, at: Fd, name: bytes) -> None:
        """Remove an entry that is not a folder."""
        os.unlink(name, dir_fd=at)

    # files

    def open_file(self, at: Fd, name: bytes) -> Fd:
        """Open a file for reading. Raises ELOOP for a symlink; does not block on a FIFO without a writer."""
        return os.open(name, _READ_FLAGS, dir_fd=at)

    def reader(self, fd: Fd) -> io.BufferedReader:
        """Return a buffered reader of an open file; closing the reader closes the file."""
        return io.BufferedReader(io.FileIO(fd), _BUFFER_BYTES)

    def create(self, at: Fd, name: bytes, mode: int, *, append: bool = False) -> Fd:
        """Create a file and open it for writing, or for appending. Raises FileExistsError if the name is taken."""
        return os.open(name, _CREATE_FLAGS | (os.O_APPEND if append else 0), mode, dir_fd=at)

    def read(self, fd: Fd, size: int) -> bytes:
        """Read at most ``size`` bytes from the current position; b"" at the end of the file."""
        return os.read(fd, size)

    def write(self, fd: Fd, data: bytes) -> None:
        """Write all the data, in several system calls if necessary."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def has_holes(self, fd: Fd, size: int) -> bool:
        """Return whether a file of ``size`` bytes has a hole; False on file systems that don't know. Moves the position."""
        try:
            return os.lseek(fd, 0, os.SEEK_HOLE) < size
        except OSError:
            return False

    def truncate(self, fd: Fd) -> None:
        """Truncate an open file to 0 bytes."""
        os.ftruncate(fd, 0)

    def set_times(self, fd: Fd, mtime_ns: int) -> None:
        """Set the access and modification time of an open file."""
        os.utime(fd, ns=(mtime_ns, mtime_ns))

    def group(self, fd: Fd) -> int:
        """Return the group id of an open file or folder."""
        return os.fstat(fd).st_gid

    def own_group(self) -> int:
        """Return the group id of this process."""
        return os.getegid()

    def set_mode(self, fd: Fd, mode: int) -> None:
        """Set the permissions of an open file or folder."""
        os.fchmod(fd, mode)

    def change_mode(self, at: Fd, name: bytes, mode: int) -> None:
        """Set the permissions of a file or folder that can't be opened; of a symlink, those of its target."""
        os.chmod(name, mode, dir_fd=at)

    def load_attribute(self, fd: Fd, name: str) -> bytes | None:
        """Return an extended attribute of an open file or folder; None if it has none, or its file system keeps none."""
        if sys.platform != "linux":
            return None
        try:
            return os.getxattr(fd, name)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOTSUP):
                return None
            raise

    def save_attribute(self, fd: Fd, name: str, value: bytes) -> None:
        """Set an extended attribute of an open file or folder. Raises ENOTSUP if its file system keeps none."""
        if sys.platform != "linux":
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        os.setxattr(fd, name, value)

    def remove_attribute(self, fd: Fd, name: str) -> None:
        """Remove an extended attribute, if there is one."""
        if self.load_attribute(fd, name) is not None:
            os.removexattr(fd, name)

    def fsync(self, fd: Fd) -> None:
        """Flush a file's content, or a folder's entries, to the storage device."""
        os.fsync(fd)

    def lock(self, fd: Fd) -> bool:
        """Acquire the exclusive advisory lock (flock) of an open file until its close; return False if it is held."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def check_writers(self, fd: Fd) -> WriterCheck:
        """Return whether a process has the file open for writing, by acquiring a read lease (fcntl) for a microsecond.

        Another user's file requires CAP_LEASE. Call ``ignore_lease_breaks`` before.
        """
        writers = self.hold_lease(fd)
        if writers is WriterCheck.FREE:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return writers

    def hold_lease(self, fd: Fd) -> WriterCheck:
        """Acquire a read lease (fcntl) and hold it until the file is closed, so that a writer's open waits; see check_writers.

        Returns FREE if the lease is held.
        """
        if sys.platform != "linux":
            return WriterCheck.UNKNOWN
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return WriterCheck.BUSY
        except OSError:
            return WriterCheck.UNKNOWN
        return WriterCheck.FREE

    def has_lease(self, fd: Fd) -> bool:
        """Return whether a lease is held that no writer waits for."""
        return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK

    # mounts

    def mount_id(self, fd: Fd) -> int:
        """Return the id of the mount that an open folder is on (Linux), or its device number (other systems)."""
        try:
            info = self.read_text(PurePath(f"/proc/self/fdinfo/{fd}"))
        except FileNotFoundError:
            return os.fstat(fd).st_dev
        return next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("mnt_id:"))

    def read_text(self, path: PurePath) -> str:
        """Return the text of a small file by path, such as one below /proc."""
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:  # noqa: PTH123 - PurePath by design
            return file.read()


class closing:  # noqa: N801 - reads like contextlib.closing
    """A context manager that closes a descriptor."""

    __slots__ = ("_disk", "_fd")

    def __init__(self, disk: Disk, fd: Fd) -> None:
        self._disk = disk
        self._fd = fd

    def __enter__(self) -> Fd:
        return self._fd

    def __exit__(self, *_raised: object) -> None:
        self._disk.close(self._fd)


def is_same_file(first: Stat, second: Stat) -> bool:
    """Return whether two results are of one file: the same inode of the same device."""
    return (first.dev, first.ino) == (second.dev, second.ino)
