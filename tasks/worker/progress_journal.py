"""A process's notes in a file of its own: written in a microsecond or two, and there when it and all its kin are killed.

They are not synced: what a power cut loses of them costs handler calls, and no file.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.tasks.worker.process_identity import Liveness, liveness, process_token

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_HEADER_BYTES = 32
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OrphanedJournal:
    """What a file of notes holds: what they are about, "" for nothing, and the notes, one msgpack value after the other."""

    parcel_id: str
    records: bytes


class ProgressJournal:
    """Notes about one thing at a time. For one thread; every method raises OSError."""

    def __init__(self, disk: Disk, folder: PurePath) -> None:
        """Nothing is made before the first title; only this process's user can read what is."""
        self._disk = disk
        self._folder = folder
        self._file: Fd | None = None

    def begin(self, parcel_id: str) -> None:
        """Wipe all notes, and begin anew; ``title`` is ASCII, of at most 32 characters."""
        if self._file is not None and self._disk.fstat(self._file).links == 0:  # it was taken for nobody's, and removed
            self._disk.close(self._file)
            self._file = None
        if self._file is None:
            self._file = self._create()
        self._disk.truncate(self._file)
        # If we die here, or below: a file that is about nothing, or the beginning of its last note, which nobody reads.
        self._disk.write(self._file, parcel_id.encode("ascii").ljust(_HEADER_BYTES))

    def add(self, record: bytes) -> None:
        """Add a note. After an error the notes must be begun anew."""
        assert self._file is not None
        self._disk.write(self._file, record)

    def _create(self) -> Fd:
        name = self._folder.name.encode()
        self._disk.make_path(self._folder.parent)
        with closing(self._disk, self._disk.open_root(self._folder.parent)) as parent:
            with contextlib.suppress(FileExistsError):
                self._disk.mkdir(parent, name, FOLDER_MODE)
            with closing(self._disk, self._disk.open_folder(parent, name)) as folder:
                return self._disk.create(folder, _own_name(), FILE_MODE, append=True)


def read_records(disk: Disk, folder: PurePath, parcel_id: str) -> bytes:
    """Return what is noted about this, by whomever; b"" where nothing is, or it can't be read."""
    with contextlib.suppress(OSError), closing(disk, disk.open_root(folder)) as at:
        return b"".join(left.records for name in _list_names(disk, at) if (left := _read_journal(disk, at, name, parcel_id)))
    return b""


def orphaned_journals(disk: Disk, folder: PurePath, keep_seconds: float) -> Iterator[OrphanedJournal]:
    """Yield what dead processes have left; each file is removed when the next is asked for.

    Of a process that can't be looked for, as after a reboot, notes are kept for so long.
    """
    with contextlib.suppress(OSError), closing(disk, disk.open_root(folder)) as at:
        for name in _list_names(disk, at):
            # another may be quicker; what can't be removed is met again
            with contextlib.suppress(OSError):
                if _is_orphaned(disk, at, name, keep_seconds) and (left := _read_journal(disk, at, name)):
                    yield left
                    disk.unlink(at, name)


def _list_names(disk: Disk, at: Fd) -> list[bytes]:
    return [name for name, is_folder in disk.entries(at) if not is_folder]


def _is_orphaned(disk: Disk, at: Fd, name: bytes, keep_seconds: float) -> bool:
    known = liveness(b"/".join((b"", *name.split(b","), b"")).decode("ascii", "replace"))
    if known is Liveness.UNKNOWN:
        return time.time() - disk.stat(at, name).mtime_ns / 1e9 > keep_seconds
    return known is Liveness.DEAD


def _own_name() -> bytes:
    """Return this process's name for its file, by which others tell whether it lives."""
    return b",".join(process_token("").encode().split(b"/")[1:4])


def _read_journal(disk: Disk, at: Fd, name: bytes, parcel_id: str | None = None) -> OrphanedJournal | None:
    """Read a file of notes; None if it is gone, or not about what is asked for."""
    try:
        with closing(disk, disk.open_file(at, name)) as file:
            found = disk.read(file, _HEADER_BYTES).decode("ascii", "replace").strip()
            if parcel_id is not None and found != parcel_id:
                return None
            return OrphanedJournal(found, b"".join(iter(lambda: disk.read(file, _READ_BYTES), b"")))
    except FileNotFoundError:
        return None
