"""A process's journal: records in a file, each written in a microsecond or two, which survive the death of all processes.

Journals are not synced: records lost in a power cut cost handler calls, but no file.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.tasks.process_state.process_identity import Liveness, liveness, process_token

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_HEADER_BYTES = 32
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class JournalContent:
    """A journal's content: the id of its parcel, "" if it has none, and its records, one msgpack value after the other."""

    parcel_id: str
    records: bytes


class ProgressJournal:
    """This process's journal of one parcel at a time. For one thread; every method raises OSError."""

    def __init__(self, disk: Disk, folder: PurePath) -> None:
        """``folder`` and file are created by the first ``begin``, readable by this process's user only."""
        self._disk = disk
        self._folder = folder
        self._file: Fd | None = None

    def begin(self, parcel_id: str) -> None:
        """Delete all records, and begin a new parcel's; ``parcel_id`` is ASCII, of at most 32 characters."""
        if self._file is not None and self._disk.fstat(self._file).links == 0:  # removed as orphaned
            self._disk.close(self._file)
            self._file = None
        if self._file is None:
            self._file = self._create()
        self._disk.truncate(self._file)
        # If we die here, or below: a journal of no parcel, or with an incomplete last record, which readers skip.
        self._disk.write(self._file, parcel_id.encode("ascii").ljust(_HEADER_BYTES))

    def add(self, record: bytes) -> None:
        """Append a record. After an error, call ``begin`` before the next one."""
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
    """Return a parcel's records from all journals, b"" if there are none or they can't be read."""
    with contextlib.suppress(OSError), closing(disk, disk.open_root(folder)) as at:
        return b"".join(found.records for name in _list_names(disk, at) if (found := _read_journal(disk, at, name, parcel_id)))
    return b""


def orphaned_journals(disk: Disk, folder: PurePath, keep_seconds: float) -> Iterator[JournalContent]:
    """Yield the journals of dead processes; each file is removed when the next one is requested.

    If a process's liveness is unknown, as after a reboot, its journal counts as orphaned after ``keep_seconds``.
    """
    with contextlib.suppress(OSError), closing(disk, disk.open_root(folder)) as at:
        for name in _list_names(disk, at):
            # another process may have removed the file; one that can't be removed is yielded again
            with contextlib.suppress(OSError):
                if _is_orphaned(disk, at, name, keep_seconds) and (journal := _read_journal(disk, at, name)):
                    yield journal
                    disk.unlink(at, name)


def _list_names(disk: Disk, at: Fd) -> list[bytes]:
    return [name for name, is_folder in disk.entries(at) if not is_folder]


def _is_orphaned(disk: Disk, at: Fd, name: bytes, keep_seconds: float) -> bool:
    state = liveness(b"/".join((b"", *name.split(b","), b"")).decode("ascii", "replace"))
    if state is Liveness.UNKNOWN:
        return time.time() - disk.stat(at, name).mtime_ns / 1e9 > keep_seconds
    return state is Liveness.DEAD


def _own_name() -> bytes:
    """Return the name of this process's journal, from which others determine whether the process lives."""
    return b",".join(process_token("").encode().split(b"/")[1:4])


def _read_journal(disk: Disk, at: Fd, name: bytes, parcel_id: str | None = None) -> JournalContent | None:
    """Read a journal; return None if it is missing, or not of ``parcel_id``."""
    try:
        with closing(disk, disk.open_file(at, name)) as file:
            header = disk.read(file, _HEADER_BYTES).decode("ascii", "replace").strip()
            if parcel_id is not None and header != parcel_id:
                return None
            return JournalContent(header, b"".join(iter(lambda: disk.read(file, _READ_BYTES), b"")))
    except FileNotFoundError:
        return None
