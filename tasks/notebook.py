"""A process's notes in a file of its own: written in a microsecond or two, and there when it and all its kin are killed.

They are not synced: what a power cut loses of them costs handler calls, and no file.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from spool.disk import Disk, Fd, held
from tasks.owner import Life, life, token

MODE, FOLDER_MODE = 0o600, 0o700
_TITLE_BYTES = 32
_END = b"\xc1"
"""Stands behind the last note: a byte that msgpack never uses."""

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Left:
    """What a file of notes holds: what they are about, "" for nothing, and the notes, one msgpack value after the other."""

    name: bytes
    title: str
    notes: bytes


class Notebook:
    """Notes about one thing at a time. For one thread; every method raises OSError."""

    def __init__(self, disk: Disk, folder: PurePath) -> None:
        """Nothing is made before the first title; only this process's user can read what is."""
        self._disk = disk
        self._folder = folder
        self._file: Fd | None = None
        self._end = 0

    def begin(self, title: str) -> None:
        """Wipe all notes, and begin anew; ``title`` is ASCII, of at most 32 characters."""
        if self._file is None:
            self._file = self._make()
        self._disk.write_at(self._file, title.encode("ascii").ljust(_TITLE_BYTES) + _END, 0)
        self._end = _TITLE_BYTES

    def add(self, note: bytes) -> None:
        """Add a note."""
        assert self._file is not None
        self._disk.write_at(self._file, note + _END, self._end)
        self._end += len(note)  # if we die before this, who reads finds the note all the same

    def _make(self) -> Fd:
        self._disk.make_path(self._folder.parent)
        with held(self._disk, self._disk.open_root(self._folder.parent)) as parent:
            with contextlib.suppress(FileExistsError):
                self._disk.mkdir(parent, self._folder.name.encode(), FOLDER_MODE)
            with held(self._disk, self._disk.open_folder(parent, self._folder.name.encode())) as folder:
                return self._disk.create(folder, _name(), MODE)


def read(disk: Disk, folder: PurePath) -> list[Left]:
    """Return what all files of notes hold; [] where there is no such folder, or it can't be read."""
    try:
        with held(disk, disk.open_root(folder)) as at:
            return [left for name, is_folder in disk.entries(at) if not is_folder and (left := _read(disk, at, name))]
    except OSError:
        return []


def of_the_dead(disk: Disk, folder: PurePath) -> Iterator[Left]:
    """Yield what dead processes have left; each file is removed when the next is asked for."""
    for left in read(disk, folder):
        if life(b"/".join((b"", *left.name.split(b","), b"")).decode("ascii", "replace")) is Life.DEAD:
            yield left
            # another may be quicker; what can't be removed is met again
            with contextlib.suppress(OSError), held(disk, disk.open_root(folder)) as at:
                disk.unlink(at, left.name)


def _name() -> bytes:
    """Return this process's name for its file, by which others tell whether it lives."""
    return b",".join(token("").encode().split(b"/")[1:4])


def _read(disk: Disk, at: Fd, name: bytes) -> Left | None:
    try:
        with held(disk, disk.open_file(at, name)) as file:
            text = b"".join(iter(lambda: disk.read(file, _READ_BYTES), b""))
    except OSError:
        return None
    title, notes = text[:_TITLE_BYTES], text[_TITLE_BYTES:]
    return Left(name, title.decode("ascii", "replace").strip(), notes)
