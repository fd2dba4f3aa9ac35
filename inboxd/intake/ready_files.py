"""Gathering what is ready: one unfinished scan of an inbox, and the files that it has found complete."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.config.settings import Inbox
from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import Candidate
from inboxd.intake.packing import clock_of, version
from inboxd.intake.pruning import innermost_first, prune
from inboxd.intake.readiness import Patience, Ready, Refuse, Wait
from inboxd.intake.scan import Denied, Seen, SubFolder, scan
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.spool.layout import Folders

LOOKS_A_TURN = 5000
"""An inbox gives way to the others after so many entries."""

PRUNES_A_TURN = 500
"""… and after so many sub-folders that may have to be removed."""

SUB_FOLDERS_MAX = 100_000
"""So many sub-folders are remembered during one scan, to be tidied after it."""

DENIED_SECONDS = 60.0
"""A file that the system keeps from us is left alone for so long."""

DENIED_MAX = 10_000


@dataclass(slots=True)
class Looked:
    """What one look did.

    ``more`` of the scan is left; ``sub_folders`` tells, at its end, that the inbox has some; ``due_in`` is the seconds until
    the next file that is not complete yet will be, None if there is none; ``again_in`` until one of which that is not known is
    worth another look. ``cost`` is the seconds that it took to look at what stays in the inbox: the next scan has to look at
    it again.
    """

    more: bool = False
    sub_folders: bool = False
    due_in: float | None = None
    again_in: float | None = None
    cost: float = 0.0


class Gathering:
    """One inbox's scan and its finds: ``small`` and ``large`` files that are ready, and what is ``refused``, and why."""

    def __init__(self, disk: Disk, inbox: Inbox, patience: Patience, *, network: bool) -> None:
        """``network`` says that the folders are on another machine, whose clock the files' times are by."""
        self.small: dict[bytes, Candidate] = {}
        self.large: dict[bytes, Candidate] = {}
        self.refused: dict[bytes, str] = {}
        self._disk = disk
        self._inbox = inbox
        self._patience = patience
        self._network = network
        self._log = get_logger(__name__).bind(inbox=inbox.name)
        self._cursor: Iterator[Seen | SubFolder | Denied] | None = None
        self._sub_folders: list[SubFolder] = []
        self._untidied: list[SubFolder] = []
        self._looked = Looked()
        self._begun = self._started = self._seconds = 0.0
        self._entries = self._found = 0
        self._due: float | None = None
        self._again: float | None = None
        self._denied: dict[bytes, float] = {}

    @property
    def resting(self) -> bool:
        """Whether the next look begins a new scan: what arrives before it will be seen."""
        return self._cursor is None and not self._untidied

    @property
    def ready(self) -> int:
        """How many files are ready."""
        return len(self.small) + len(self.large)

    def forget(self) -> None:
        """Give up the unfinished scan, as after the folder was away; the next look begins anew."""
        self._cursor = None
        self._sub_folders.clear()
        self._untidied = []
        for kept in (self.small, self.large, self.refused):
            kept.clear()

    def look(self, folders: Folders, room: int) -> Looked:
        """Look at some entries more, until ``room`` files are ready. Raises OSError if the inbox can't be read."""
        begun = time.monotonic()
        looked = self._look(folders, room)
        self._seconds += time.monotonic() - begun
        # the folder itself stays: to list it can take long, too
        looked.cost = self._seconds * (self._entries - self._found + 1) / (self._entries + 1)
        return looked

    def deny(self, path: bytes, error: OSError) -> None:
        """Leave a file alone for a while, and say so once in that time."""
        if len(self._denied) >= DENIED_MAX:
            self._denied.clear()
        if not self._is_denied(path):
            self._denied[path] = time.monotonic() + DENIED_SECONDS
            remedy = "let inbox/ and its sub-folders belong to the service, or permit its group to write there"
            self._log.warning(events.FILE_DENIED, file=path, error=error.strerror, remedy=remedy)

    def _look(self, folders: Folders, room: int) -> Looked:
        if self._untidied:
            return self._tidy(folders)
        if self._cursor is None:
            self._begun = clock_of(self._disk, folders, network=self._network)
            self._started = time.monotonic()
            self._due = self._again = None
            self._seconds = 0.0
            self._entries = self._found = 0
            self._cursor = scan(self._disk, folders.inbox, self._inbox, self._patience, self._now)
        for _ in range(LOOKS_A_TURN):
            if self.ready >= room:
                return Looked()
            entry = next(self._cursor, None)
            if entry is None:
                return self._end(folders)
            self._note(entry)
        return Looked(more=True)

    def _now(self) -> float:
        """Return the time by the clock that the files' times are by."""
        return self._begun + time.monotonic() - self._started

    def _in(self, moment: float | None) -> float | None:
        return None if moment is None else max(moment - self._now(), 0.0)

    def _is_denied(self, path: bytes) -> bool:
        return self._denied.get(path, 0.0) > time.monotonic()

    def _note(self, entry: Seen | SubFolder | Denied) -> None:
        self._entries += 1
        match entry:
            case SubFolder():
                if len(self._sub_folders) < SUB_FOLDERS_MAX:
                    self._sub_folders.append(entry)
            case Denied(path, error):
                self.deny(path, error)
            case Seen() if not self._is_denied(entry.path):
                self._note_seen(entry)

    def _note_seen(self, entry: Seen) -> None:
        match entry.decision:
            case Ready() if entry.look:
                kind = self.small if entry.look.size <= self._inbox.inline_bytes_max else self.large
                kind[entry.path] = Candidate(entry.path, entry.look.size, version(entry.look))
                self._found += 1
            case Refuse(why):
                self.refused[entry.path] = why
                self._found += 1
            case Wait(until, _, sure=True):
                self._due = until if self._due is None else min(self._due, until)
            case Wait(until, _):
                self._again = until if self._again is None else min(self._again, until)
            case _:
                pass

    def _end(self, folders: Folders) -> Looked:
        self._cursor = None
        self._looked = Looked(sub_folders=bool(self._sub_folders), due_in=self._in(self._due), again_in=self._in(self._again))
        if self._inbox.empty_folders == "remove":
            self._untidied = innermost_first(self._sub_folders)
        self._sub_folders = []
        return self._tidy(folders)

    def _tidy(self, folders: Folders) -> Looked:
        """Remove some of the sub-folders that are empty; the scan is at its end when all have been tried."""
        some, self._untidied = self._untidied[:PRUNES_A_TURN], self._untidied[PRUNES_A_TURN:]
        for path in prune(self._disk, folders, some, self._begun, self._inbox.empty_folder_seconds):
            self._log.info(events.FOLDER_PRUNED, file=path)
        return Looked(more=True) if self._untidied else self._looked
