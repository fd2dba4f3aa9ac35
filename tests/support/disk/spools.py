"""One inbox on a real disk: write its files, and list what its folders contain."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from inboxd.config.rules import Inbox
from inboxd.fs.syscalls import Disk
from inboxd.intake.readiness import WaitTimes
from inboxd.spool.error_note import SUFFIX
from inboxd.spool.layout import Folders, new_parcel_id, open_folders

NO_WAITS = WaitTimes(settle_seconds=0.0, unsure_seconds=0.0, empty_seconds=0.0)
"""Every file is complete as soon as it exists."""

RESERVED = b"(only reserves its name)"
RESERVING = b"inboxd-reserved-"
TEMP_PREFIX = b".inboxd-"

TOPS = ("inbox", "claimed", "done", "failed")


@dataclass(frozen=True)
class Spool:
    """An inbox's root. Paths are bytes below it, such as b"inbox/sub/a.pdf"."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> "Spool":
        """Make the four folders below ``root``."""
        for top in TOPS:
            (root / top).mkdir(parents=True)
        return cls(root)

    def where(self, path: bytes) -> Path:
        """Return the absolute path of a path below the root."""
        return self.root / os.fsdecode(path)

    def put(self, path: bytes, data: bytes = b"content") -> Path:
        """Write a file, and make its parent folders; return its absolute path."""
        file = self.where(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def claimed(self, *paths: bytes, data: bytes = b"content") -> str:
        """Write files into a new parcel, as a claim leaves them; return the parcel's id."""
        parcel = new_parcel_id()
        for path in paths:
            self.put(b"claimed/%s/%s" % (parcel.encode(), path), data)
        return parcel

    def inbox(self, **rules: object) -> Inbox:
        """Return the inbox's settings."""
        return Inbox(name="drop", root=PurePath(self.root), **{"inline_bytes_max": 64, **rules})

    @contextlib.contextmanager
    def folders(self) -> Iterator[Folders]:
        """Open the four folders; close them on exit."""
        with open_folders(Disk(), PurePath(self.root)) as folders:
            yield folders

    def files(self, top: str = "") -> dict[bytes, bytes]:
        """Return path below ``top`` -> content of everything but folders; see ``_content`` for links and special files."""
        start = self.root / top
        return {
            os.fsencode((Path(folder) / name).relative_to(start)): _content(Path(folder) / name)
            for folder, subfolders, names in os.walk(start)
            for name in (*names, *(link for link in subfolders if (Path(folder) / link).is_symlink()))
        }

    def folders_in(self, top: str) -> set[bytes]:
        """Return the paths of all sub-folders below ``top``."""
        start = self.root / top
        return {os.fsencode(Path(folder).relative_to(start)) for folder, _, _ in os.walk(start)} - {b"."}

    def failed_files(self) -> dict[bytes, bytes]:
        """Return the files in failed/ without error notes and our own temporary files."""
        return {
            path: data
            for path, data in self.files("failed").items()
            if not path.endswith(SUFFIX) and not path.rpartition(b"/")[2].startswith(TEMP_PREFIX)
        }

    def notes(self) -> dict[bytes, bytes]:
        """Return the error notes in failed/."""
        return {path: data for path, data in self.files("failed").items() if path.endswith(SUFFIX)}


def _content(file: Path) -> bytes:
    if file.is_symlink():
        target = os.fsencode(file.readlink())
        return RESERVED if target.startswith(RESERVING) else b"-> " + target
    return file.read_bytes() if stat.S_ISREG(file.lstat().st_mode) else b"(no file)"
