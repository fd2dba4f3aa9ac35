"""Count the files that have failed after a time, by their notes in failed/; unchanged folders are not listed again."""

import contextlib
import heapq
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from inboxd.config.rules import Inbox
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.folders import open_path, opened_path
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing
from inboxd.fs.walk import SKIPPED_ERRORS
from inboxd.notify.digest import Failure
from inboxd.spool.error_note import SUFFIX, note_name, parse_note
from inboxd.spool.filing import read_note
from inboxd.spool.layout import Folders, open_folders

MOUNT_SECONDS = 30.0
"""Maximum time to list failed/ on a network or FUSE mount."""
SETTLED_SECONDS = 2.0
"""Time after which nothing is filed any more with an earlier time than what was seen: longer than the clock of any file system
takes for a step, in seconds."""
NOTES_READ_MAX = 2000
"""Maximum notes that one look reads; further ones count without being read."""
NEWEST_MAX = 10
"""How many failures of a folder are remembered by name."""
REASON_CHARS_MAX = 300

_OLD_NS = 86_400 * 10**9
"""A note that is this much older than its last change was touched (chown, chmod), and not written now."""

Parts = tuple[bytes, ...]


@dataclass(frozen=True, slots=True, order=True)
class FailedNote:
    """The note of a failed file: its time in nanoseconds, and its path below failed/."""

    at_ns: int
    path: bytes


@dataclass(slots=True)
class _Folder:
    """What was seen in one folder: when its mtime was seen first, and when it was listed last, both monotonic seconds."""

    mtime_ns: int = -1
    seen_at: float = 0.0
    listed_at: float = 0.0
    subfolders: tuple[bytes, ...] = ()
    times: "array[int]" = field(default_factory=lambda: array("q"))
    newest: list[FailedNote] = field(default_factory=list)
    other_files: frozenset[bytes] = frozenset()
    read_ns: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing was moved there since the last listing, as long as the mtime is the same."""
        return self.listed_at - self.seen_at >= SETTLED_SECONDS


class FailedNotes:
    """The failures of one inbox. Its methods raise FolderUnavailable and OSError."""

    def __init__(self, disk: Disk, inbox: Inbox, since_ns: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Look for notes that are newer than ``since_ns``; the first ``look`` finds them."""
        self._disk = disk
        self._inbox = inbox
        self.since_ns = since_ns
        self._clock = clock
        self._folders: dict[Parts, _Folder] = {}
        self._pending: tuple[float, int] | None = None
        self.settled_ns = since_ns
        """All failures up to this time are known."""
        self._budget = 0

    def look(self) -> None:
        """List the folders that have changed. What is new counts from the look that is SETTLED_SECONDS later."""
        run_on_mounts(self._disk, self._inbox.root, self._look, MOUNT_SECONDS)

    def count(self, after_ns: int) -> int:
        """Return how many files have failed after a time."""
        if after_ns >= self.settled_ns:
            return 0
        all_times = (folder.times for folder in self._folders.values())
        return sum(bisect_right(times, self.settled_ns) - bisect_right(times, after_ns) for times in all_times)

    def newest(self, after_ns: int, files_max: int) -> list[FailedNote]:
        """Return the newest failures after a time, at most ``files_max`` and NEWEST_MAX of each folder, the newest first."""
        notes = (note for folder in self._folders.values() for note in folder.newest)
        return heapq.nlargest(files_max, (note for note in notes if after_ns < note.at_ns <= self.settled_ns))

    def read(self, notes: list[FailedNote]) -> Iterator[Failure]:
        """Yield what the notes say; one that is gone is left out."""
        found = run_on_mounts(self._disk, self._inbox.root, lambda: list(self._read(notes)), MOUNT_SECONDS)
        yield from found

    def _read(self, notes: list[FailedNote]) -> Iterator[Failure]:
        with open_folders(self._disk, self._inbox.root) as folders:
            for note in notes:
                *parts, name = note.path.split(b"/")
                with contextlib.suppress(OSError), opened_path(self._disk, folders.failed, tuple(parts)) as at:
                    if text := read_note(self._disk, at, name):
                        parsed = parse_note(text)
                        reason = parsed.reason if parsed else "the reason can't be read"
                        path = parsed.path if parsed else note.path.removesuffix(SUFFIX)
                        yield Failure(path, reason.splitlines()[0][:REASON_CHARS_MAX] if reason else "")

    def _look(self) -> None:
        started, self._budget = self._clock(), NOTES_READ_MAX
        with open_folders(self._disk, self._inbox.root) as folders:
            seen = dict(self._walk(folders, started))
        self._folders = seen
        if self._pending is None:
            self._pending = started, self._newest_ns()
        elif started - self._pending[0] >= SETTLED_SECONDS:
            self.settled_ns = max(self.settled_ns, self._pending[1])
            self._pending = started, self._newest_ns()

    def _newest_ns(self) -> int:
        return max((folder.times[-1] for folder in self._folders.values() if folder.times), default=self.since_ns)

    def _walk(self, folders: Folders, now: float) -> Iterator[tuple[Parts, _Folder]]:
        waiting: list[Parts] = [()]
        while waiting:
            parts = waiting.pop()
            try:
                at = open_path(self._disk, folders.failed, parts)
            except OSError as error:
                if not parts or error.errno not in SKIPPED_ERRORS:
                    raise
                continue
            with closing(self._disk, at):
                folder = self._see(at, parts, self._folders.get(parts, _Folder()), now)
            yield parts, folder
            waiting.extend((*parts, name) for name in folder.subfolders)

    def _see(self, at: Fd, parts: Parts, known: _Folder, now: float) -> _Folder:
        """Return what is in a folder: what is known, or what a new listing finds."""
        mtime_ns = self._disk.fstat(at).mtime_ns
        if mtime_ns == known.mtime_ns and known.is_settled:
            return known
        seen_at = known.seen_at if mtime_ns == known.mtime_ns else now
        listed = _Folder(mtime_ns, seen_at, now, read_ns=known.read_ns)
        self._list(at, b"".join(part + b"/" for part in parts), known, listed)
        return listed

    def _list(self, at: Fd, prefix: bytes, known: _Folder, listed: _Folder) -> None:
        subfolders, others, notes = [], set(), []
        for name, is_folder in self._disk.entries(at):
            if is_folder:
                subfolders.append(name)
            elif name.endswith(SUFFIX) and not name.startswith(TEMP_PREFIX) and (at_ns := self._time_of(at, name)):
                if name in known.other_files or (at_ns > known.read_ns and not self._is_failure(at, name)):
                    others.add(name)
                else:
                    notes.append(FailedNote(at_ns, prefix + name))
        listed.subfolders, listed.other_files = tuple(subfolders), frozenset(others)
        listed.newest = heapq.nlargest(NEWEST_MAX, notes)
        listed.times = array("q", sorted(note.at_ns for note in notes))
        listed.read_ns = max(listed.read_ns, listed.times[-1] if listed.times else 0)

    def _time_of(self, at: Fd, name: bytes) -> int:
        """Return when a note came there, in nanoseconds; 0 if that was before ``since_ns``, or it is no file."""
        try:
            stat = self._disk.stat(at, name)
        except OSError:  # moved meanwhile
            return 0
        at_ns = stat.ctime_ns if stat.ctime_ns - stat.mtime_ns < _OLD_NS else stat.mtime_ns
        return at_ns if at_ns > self.since_ns and stat.kind is FileKind.FILE else 0

    def _is_failure(self, at: Fd, name: bytes) -> bool:
        """Return whether an entry is the note of a dropped file: no file of a user's, and no note of a handler's output."""
        if self._budget <= 0:
            return True
        self._budget -= 1
        with contextlib.suppress(FileNotFoundError):
            self._disk.stat(at, note_name(name))
            return False  # it has a note of its own: a user's file
        text = read_note(self._disk, at, name)
        if not text:  # no permission
            return True
        note = parse_note(text)
        return note is not None and not note.is_output
