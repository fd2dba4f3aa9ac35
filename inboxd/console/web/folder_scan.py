"""Read one folder below failed/: which files failed, and why. A note is read once, until its inode or time changes."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from inboxd.console.web.failure import Failure
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd
from inboxd.spool.error_note import SUFFIX, is_note, note_name, parse_note
from inboxd.spool.filing import read_note

SETTLED_SECONDS = 2.0
"""Time after a folder's last change until its time counts: a change in the same tick of the clock would leave it as it is."""
REASON_CHARS_MAX = 500
"""Length of a reason that is kept in memory for each failed file."""

Identity = tuple[int, int]


@dataclass(slots=True)
class FolderScan:
    """What a folder contained: its failed files by name, its sub-folders, and the names that are inboxd's own or outputs."""

    stamp: tuple[int, int, int] = (0, 0, 0)
    is_settled: bool = False
    failures: dict[bytes, Failure] = field(default_factory=dict)
    sub_folders: list[bytes] = field(default_factory=list)
    own: dict[bytes, Identity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Scans folders of one inbox. ``pause`` is called after each name, ``intern`` returns one object for equal reasons."""

    disk: Disk
    inbox: str
    pause: Callable[[], None]
    intern: Callable[[str], str]

    def scan(self, at: Fd, prefix: bytes, before: FolderScan | None) -> FolderScan:
        """Return what a folder contains; ``before`` itself if the folder has not changed since. Raises OSError."""
        stat = self.disk.fstat(at)
        stamp = stat.dev, stat.ino, stat.mtime_ns
        if before and before.is_settled and before.stamp == stamp:
            return before
        found = FolderScan(stamp, time.time() - stat.mtime_ns / 1e9 > SETTLED_SECONDS)
        with os.scandir(at) as entries:
            listed = {os.fsencode(entry.name): entry for entry in entries}
        for name in sorted(listed, key=lambda name: (name.endswith(SUFFIX), len(name))):  # each file before its note
            self.pause()
            entry = listed[name]
            if not name.startswith(TEMP_PREFIX):
                try:
                    self._add(found, before or FolderScan(), at, prefix, entry, name, listed)
                except FileNotFoundError:  # moved meanwhile
                    continue
        return found

    def _add(
        self, found: FolderScan, before: FolderScan, at: Fd, prefix: bytes, entry: os.DirEntry[str], name: bytes,
        listed: dict[bytes, os.DirEntry[str]],
    ) -> None:  # fmt: skip
        """Add one entry of the folder to what was found."""
        is_folder = entry.is_dir(follow_symlinks=False)
        note = listed.get(note_name(name))
        if is_folder and note is None:
            found.sub_folders.append(name)
            return
        if entry.is_symlink() and is_reserved(self.disk, at, name):
            return
        described_by = note or entry
        raw = described_by.stat(follow_symlinks=False)
        identity = raw.st_ino, raw.st_mtime_ns
        if (known := before.failures.get(name)) and known.identity == identity:
            found.failures[name] = known
        elif identity in (before.own.get(name), found.own.get(name)) or (note is None and self._is_orphaned_note(at, name)):
            found.own[name] = identity
        else:
            changed_at = raw.st_mtime_ns / 1e9 if note else raw.st_ctime_ns / 1e9
            self._read(found, at, prefix, name, identity, changed_at, is_folder=is_folder, has_note=note is not None)

    def _is_orphaned_note(self, at: Fd, name: bytes) -> bool:
        return name.endswith(SUFFIX) and is_note(read_note(self.disk, at, name))

    def _read(
        self, found: FolderScan, at: Fd, prefix: bytes, name: bytes, identity: Identity, changed_at: float, *,
        is_folder: bool, has_note: bool,
    ) -> None:  # fmt: skip
        """Read an entry's note, and add the entry as a failed file, as an output, or as a folder to be entered."""
        text = read_note(self.disk, at, note_name(name)) if has_note else b""
        note = parse_note(text)
        if is_note(text):
            found.own[note_name(name)] = identity
        if note and note.is_output:
            found.own[name] = identity
        elif is_folder and note is None:
            found.sub_folders.append(name)
        else:
            reason = self.intern(note.reason[:REASON_CHARS_MAX]) if note else ""
            attempts = note.attempts if note else 0
            found.failures[name] = Failure(self.inbox, prefix + name, reason, changed_at, attempts, identity, is_folder)
