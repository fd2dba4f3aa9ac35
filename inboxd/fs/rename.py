"""Moving one entry without ever overwriting: by rename, or by copy across file systems; and free names."""

import contextlib
import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from inboxd.fs.syscalls import CantNoReplace, Disk, Fd, Kind, Stat, held

NAME_BYTES_MAX = 255
TEMP_PREFIX = b".inboxd-"
TEMP_NAME = re.compile(rb"\.inboxd-[0-9a-f]{16}\.(?:part|note)")
"""Our own unfinished files begin so; they lie only in done/ and failed/, and retention removes old ones."""

RESERVED = b"inboxd-reserved-"
"""Where a link that only reserves its name leads to."""

_EXTENSION_BYTES_MAX = 16
_CHUNK_BYTES = 1024 * 1024


def move(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry to a name that must be free.

    Raises FileExistsError if the name is taken, FileNotFoundError if the source is gone (somebody else moved it), and any
    other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has one of its two names.
        disk.rename(src_at, src, dst_at, dst)
    except CantNoReplace:
        _move_onto_own(disk, src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_across(disk, src_at, src, dst_at, dst)


def move_in(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry into a parcel that is being made: nobody else makes names there, so a plain rename overwrites nothing.

    Raises FileNotFoundError if the source is gone, and any other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has one of its two names.
        disk.rename_over(src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_across(disk, src_at, src, dst_at, dst)


def move_free(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, wanted: bytes) -> bytes:
    """Move an entry to the wanted name or the next free one like it; returns the name it got."""
    for name in names_like(wanted):
        try:
            move(disk, src_at, src, dst_at, name)
        except FileExistsError:
            continue
        return name
    raise AssertionError("names never end")


def names_like(wanted: bytes) -> Iterator[bytes]:
    """Yield wanted, then "wanted (2)", "wanted (3)" …, the counter before the extension, each cut to fit a name."""
    yield _cut(wanted, NAME_BYTES_MAX)
    stem, dot, extension = wanted.rpartition(b".")
    if not stem or len(extension) > _EXTENSION_BYTES_MAX:
        stem, dot, extension = wanted, b"", b""
    count = 2
    while True:
        tail = b" (%d)" % count + dot + extension
        yield _cut(stem, NAME_BYTES_MAX - len(tail)) + tail
        count += 1


def _cut(name: bytes, size: int) -> bytes:
    """Cut a name to so many bytes, between two UTF-8 characters."""
    if len(name) <= size:
        return name
    while size and name[size] & 0b1100_0000 == 0b1000_0000:  # noqa: PLR2004 - a continuation byte: its character would be torn
        size -= 1
    return name[:size]


def make_folders(disk: Disk, at: Fd, parts: tuple[bytes, ...], mode: int) -> tuple[Fd, tuple[bytes, ...]]:
    """Open a path of folders below ``at``, making what is missing; returns a descriptor that the caller closes, and the path.

    A part whose name is taken by something else gets the next free name like it, as a file would.
    """
    current, made = disk.open_folder(at, b"."), []
    for part in parts:
        with held(disk, current):
            current, name = _open_or_make(disk, current, part, mode)
        made.append(name)
    return current, tuple(made)


def _open_or_make(disk: Disk, at: Fd, wanted: bytes, mode: int) -> tuple[Fd, bytes]:
    for name in names_like(wanted):
        try:
            # If we die here: an empty folder more, which the next try uses.
            disk.mkdir(at, name, mode)
        except FileExistsError:
            if disk.stat(at, name).kind is not Kind.FOLDER:
                continue
        return disk.open_folder(at, name), name
    raise AssertionError("names never end")


def beneath(disk: Disk, at: Fd, parts: tuple[bytes, ...]) -> AbstractContextManager[Fd]:
    """Open a path of folders below ``at`` for a with block; no part may be a symlink. No parts: it is ``at`` itself."""
    return held(disk, open_path(disk, at, parts)) if parts else nullcontext(at)


class Branch:
    """Folders below one; the last stays open, for files come folder by folder."""

    def __init__(self, disk: Disk, top: Fd, mode: int | None = None) -> None:
        """Begin at ``top``, which stays the caller's to close. With a ``mode`` folders that are missing are made."""
        self._disk = disk
        self._top = top
        self._mode = mode
        self._parts: tuple[bytes, ...] = ()
        self._last: tuple[Fd, tuple[bytes, ...]] = top, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the last folder; another one may be asked for all the same."""
        fd, self._parts, self._last = self._last[0], (), (self._top, ())
        if fd != self._top:
            self._disk.close(fd)

    def at(self, parts: tuple[bytes, ...]) -> tuple[Fd, tuple[bytes, ...]]:
        """Return a folder's descriptor, which is open until another one is asked for, and its path, as in ``make_folders``."""
        if parts != self._parts:
            self.close()
            if parts:
                wanted = self._open(parts)
                self._parts, self._last = parts, wanted
        return self._last

    def _open(self, parts: tuple[bytes, ...]) -> tuple[Fd, tuple[bytes, ...]]:
        if self._mode is None:
            return open_path(self._disk, self._top, parts), parts
        return make_folders(self._disk, self._top, parts, self._mode)


def open_path(disk: Disk, at: Fd, parts: tuple[bytes, ...]) -> Fd:
    """Open a path of folders below ``at``; no part may be a symlink. The caller closes it."""
    if parts:
        first, *parts_below = parts
        current = disk.open_folder(at, first)
    else:
        parts_below, current = [], disk.open_folder(at, b".")
    for part in parts_below:
        with held(disk, current):
            current = disk.open_folder(current, part)
    return current


def _move_onto_own(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
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
        if not _same(disk.stat(dst_at, dst), look):
            _free(disk, look, dst_at, dst)
            raise
    except OSError:
        _free(disk, look, dst_at, dst)
        raise


def _reserve(disk: Disk, look: Stat, dst_at: Fd, dst: bytes) -> None:
    # If we die here, or in these steps: a name that is reserved, as below.
    if look.kind is Kind.FOLDER:  # a folder is renamed onto an empty one only
        disk.mkdir(dst_at, dst, 0o700)
        return
    try:
        disk.symlink(_reservation(look), dst_at, dst)
    except FileExistsError:
        if not _is_reserved_for(disk, look, dst_at, dst):
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        disk.close(disk.create(dst_at, dst, 0o600))  # no links here either: an empty file will do


def _free(disk: Disk, look: Stat, dst_at: Fd, dst: bytes) -> None:
    with contextlib.suppress(OSError):
        if _is_reserved_for(disk, look, dst_at, dst):
            disk.unlink(dst_at, dst)


def _reservation(look: Stat) -> bytes:
    return RESERVED + b"%d-%d" % (look.dev, look.ino)


def _is_reserved_for(disk: Disk, look: Stat, at: Fd, name: bytes) -> bool:
    return disk.stat(at, name).kind is Kind.LINK and disk.readlink(at, name) == _reservation(look)


def is_reserved(disk: Disk, at: Fd, name: bytes) -> bool:
    """Tell whether a name is only reserved: by a link of ours that leads nowhere."""
    return disk.stat(at, name).kind is Kind.LINK and disk.readlink(at, name).startswith(RESERVED)


def _same(one: Stat, other: Stat) -> bool:
    return (one.dev, one.ino) == (other.dev, other.ino)


def _copy_across(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move a file to another file system: copy, sync, compare, name, and only then remove the source."""
    with held(disk, disk.open_file(src_at, src)) as source:
        look = disk.fstat(source)
        if look.kind is not Kind.FILE:
            raise OSError(errno.EXDEV, f"a {look.kind} can't be moved to another file system", src)
        if not disk.lock(source):
            raise BlockingIOError(errno.EAGAIN, "somebody else is moving it", src)
        if not _same(disk.stat(src_at, src), look):  # between the open and the lock another has moved it
            raise FileNotFoundError(errno.ENOENT, "somebody else has moved it", src)
        key = f"{look.dev}:{look.ino}:{look.size}:{look.mtime_ns}".encode()
        temp = TEMP_PREFIX + hashlib.sha256(key).hexdigest()[:16].encode() + b".part"
        if not _was_named(disk, dst_at, temp):
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


def _was_named(disk: Disk, at: Fd, temp: bytes) -> bool:
    """Tell whether an earlier try got as far as giving its copy a name here; what is left of one that did not is removed."""
    try:
        left = disk.stat(at, temp)
    except FileNotFoundError:
        return False
    if left.links > 1:  # another name may also be a backup's: only one in this folder is ours
        names = [name for name, is_folder in disk.entries(at) if not is_folder and name != temp]
        if any(_same(disk.stat(at, name), left) for name in names):
            return True
    disk.unlink(at, temp)
    return False


def _copy(disk: Disk, source: Fd, look: Stat, dst_at: Fd, temp: bytes) -> None:
    """Copy bytes and modification time, and read them back to compare. On any error the copy is removed."""
    read, copied = hashlib.sha256(), hashlib.sha256()
    # If we die here, or anywhere in this function: a temp with one name, which the next try removes.
    try:
        with held(disk, disk.create(dst_at, temp, look.mode & 0o777)) as target:
            while chunk := disk.read(source, _CHUNK_BYTES):
                read.update(chunk)
                disk.write(target, chunk)
            disk.set_times(target, look.mtime_ns)
            disk.fsync(target)
        with held(disk, disk.open_file(dst_at, temp)) as written:
            while chunk := disk.read(written, _CHUNK_BYTES):
                copied.update(chunk)
        if read.digest() != copied.digest():
            raise OSError(errno.EIO, "the copy differs from its source", temp)  # noqa: TRY301 - removed like any other failure
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(dst_at, temp)
        raise
