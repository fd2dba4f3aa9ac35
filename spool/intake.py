"""Taking files in: scan, decide, claim, pack, send. The watcher does it for every hint, the sweep for what was missed."""

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spool import log
from spool.bundling import Candidate, files_per_parcel, may_leave, next_bundle
from spool.disk import Disk
from spool.errors import BrokerAway, FolderAway
from spool.failing import fail, settle
from spool.folders import Folders, new_parcel_id, opened
from spool.lease import Leases
from spool.packing import clock_of, pack, parcel_of
from spool.payload import Parcel
from spool.readiness import Patience, Ready, Refuse, Wait
from spool.retention import prune
from spool.scan import Denied, Seen, SubFolder, scan
from spool.settings import Inbox
from spool.store import claim, discard, files, parcels

LOOKS_A_TURN = 5000
"""An inbox gives way to the others after so many entries."""

SUB_FOLDERS_MAX = 100_000
"""So many sub-folders are remembered during one scan, to be tidied after it."""

_TOLD_MAX = 10_000
_DISK_WEATHER = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


@dataclass(slots=True)
class Taken:
    """What one turn did.

    ``more`` asks for another turn at once; ``held`` files wait for a parcel to return; ``sub_folders`` tells that the inbox
    has some; ``due_in`` is the seconds until the next file that is not complete yet is worth another look, None if there is
    none.
    """

    claimed: int = 0
    refused: int = 0
    more: bool = False
    held: bool = False
    sub_folders: bool = False
    due_in: float | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """What an intake works with; tests hand in their own."""

    disk: Disk
    leases: Leases
    send: Callable[[Parcel, Inbox], None]
    host: str
    grace_seconds: float


class Intake:
    """One inbox's way in. Keeps its place in an unfinished scan, and what is ready but not yet on its way."""

    def __init__(self, means: Means, inbox: Inbox, patience: Patience, *, network: bool) -> None:
        """``network`` says that the folders are on another machine, whose clock the files' times are by."""
        self._means = means
        self._inbox = inbox
        self._patience = patience
        self._network = network
        self._log = log.get(__name__).bind(inbox=inbox.name)
        self._cursor: Iterator[Seen | SubFolder | Denied] | None = None
        self._sub_folders: list[SubFolder] = []
        self._begun = self._started = 0.0
        self._due: float | None = None
        self._small: dict[bytes, Candidate] = {}
        self._large: dict[bytes, Candidate] = {}
        self._refused: dict[bytes, str] = {}
        self._flying: dict[str, int] = {}
        self._pace: float | None = None
        self._unsent: list[Parcel] = []
        self._told: set[bytes] = set()

    @property
    def resting(self) -> bool:
        """Whether the next turn begins a new scan: what arrives before it will be seen."""
        return self._cursor is None

    def take(self, found_by: str) -> Taken:
        """Take one turn: look at some entries, and send what is ready as far as the limits allow.

        Raises FolderAway (nothing is known about the inbox just now) or BrokerAway (what is claimed already is sent first on
        the next turn); both leave every file where the next turn finds it.
        """
        taken = Taken()
        try:
            with opened(self._means.disk, self._inbox.root) as folders:
                self._send_again()
                self._count_flying(folders)
                self._look(folders, taken)
                self._file_refused(folders, taken)
                self._send_ready(folders, found_by, taken)
        except OSError as error:
            self.forget()
            raise FolderAway(f"{self._inbox.root}: {error.strerror or error}") from error
        except FolderAway:
            self.forget()
            raise
        return taken

    def forget(self) -> None:
        """Give up the unfinished scan, as after the folder was away; the next turn begins anew."""
        self._cursor = None
        self._sub_folders.clear()
        for kept in (self._small, self._large, self._refused):
            kept.clear()

    # look

    def _look(self, folders: Folders, taken: Taken) -> None:
        room = self._room()
        if self._cursor is None:
            self._begun = clock_of(self._means.disk, folders, network=self._network)
            self._started = time.monotonic()
            self._due = None
            self._cursor = scan(self._means.disk, folders.inbox, self._inbox, self._patience, self._begun)
        for _ in range(LOOKS_A_TURN):
            if len(self._small) + len(self._large) >= room:
                taken.held = True
                return
            entry = next(self._cursor, None)
            if entry is None:
                self._end_scan(folders, taken)
                return
            self._note(entry)
        taken.more = True

    def _note(self, entry: Seen | SubFolder | Denied) -> None:
        match entry:
            case SubFolder():
                if len(self._sub_folders) < SUB_FOLDERS_MAX:
                    self._sub_folders.append(entry)
            case Denied(path, error):
                self._tell_denied([(path, error)])
            case Seen():
                self._note_seen(entry)

    def _note_seen(self, entry: Seen) -> None:
        match entry.decision:
            case Ready():
                size = entry.look.size if entry.look else 0
                kind = self._small if size <= self._inbox.inline_bytes_max else self._large
                kind[entry.path] = Candidate(entry.path, size)
            case Refuse(why):
                self._refused[entry.path] = why
            case Wait(until, _):
                self._due = until if self._due is None else min(self._due, until)
            case _:
                pass

    def _end_scan(self, folders: Folders, taken: Taken) -> None:
        self._cursor = None
        if self._due is not None:
            now = self._begun + time.monotonic() - self._started
            taken.due_in = max(self._due - now, 0.0)
        taken.sub_folders = bool(self._sub_folders)
        if self._inbox.empty_folders == "remove" and self._sub_folders:
            quiet = self._inbox.empty_folder_seconds
            for path in prune(self._means.disk, folders, self._sub_folders, self._begun, quiet):
                self._log.info(log.FOLDER_PRUNED, file=path)
        self._sub_folders = []

    # send

    def _room(self) -> int:
        return self._inbox.in_flight_files_max - sum(self._flying.values())

    def _count_flying(self, folders: Folders) -> None:
        """Bring the count of what is in claimed/ up to date; parcels of other makers are counted once."""
        present = parcels(self._means.disk, folders)
        known = self._flying
        self._flying = {
            parcel: known[parcel] if parcel in known else len(files(self._means.disk, folders, parcel)) for parcel in present
        }

    def _send_ready(self, folders: Folders, found_by: str, taken: Taken) -> None:
        for kind, bytes_max in ((self._small, self._inbox.parcel_bytes_max), (self._large, 1 << 62)):
            while kind:
                target = files_per_parcel(self._pace, self._inbox.parcel_files_max)
                bundle = next_bundle(kind.values(), min(target, max(self._room(), 1)), bytes_max)
                full = len(bundle) < len(kind) or len(bundle) >= target
                files_or_target = target if full else len(bundle)
                if self._room() <= 0 or not may_leave(files_or_target, target, self._pace, len(self._flying)):
                    taken.held = True
                    break
                self._dispatch(folders, kind, [file.path for file in bundle], found_by, taken)

    def _dispatch(
        self, folders: Folders, kind: dict[bytes, Candidate], paths: list[bytes], found_by: str, taken: Taken
    ) -> None:
        """Walk one parcel through its steps: lease, claim, pack, send."""
        parcel = new_parcel_id()
        # If we die here: a lease without a parcel, which expires.
        self._pace = self._means.leases.queue(parcel, self._inbox.name, self._means.grace_seconds)
        got = claim(self._means.disk, folders, parcel, paths)
        for path in paths:
            del kind[path]
        if got.won:
            # If we die here: a parcel whose lease lapses, which recovery publishes.
            packed = pack(self._means.disk, folders, self._inbox, parcel, got.won)
            taken.refused += settle(self._means.disk, folders, self._inbox, parcel, packed)
            self._send(parcel_of(packed, parcel, self._inbox, self._means.host), found_by, taken)
        self._tell_denied(got.denied)

    def _send(self, parcel: Parcel, found_by: str, taken: Taken) -> None:
        if not parcel.files:
            return
        self._flying[parcel.id] = len(parcel.files)
        taken.claimed += len(parcel.files)
        for part in parcel.files:
            self._log.info(
                log.FILE_CLAIMED,
                file=part.filename,
                parcel=parcel.id,
                size=part.content_length,
                sha256=part.headers.get("sha256"),
                found_by=found_by,
            )
        try:
            self._means.send(parcel, self._inbox)
        except BrokerAway:
            self._unsent.append(parcel)
            raise

    def _send_again(self) -> None:
        """Send what an absent broker did not take; copies are dropped at their start."""
        while self._unsent:
            self._means.send(self._unsent[0], self._inbox)
            del self._unsent[0]

    # what can't be taken

    def _file_refused(self, folders: Folders, taken: Taken) -> None:
        if not self._refused:
            return
        parcel = new_parcel_id()
        got = claim(self._means.disk, folders, parcel, list(self._refused))
        for path in got.won:
            reason = self._refused[path]
            filed = fail(self._means.disk, folders, self._inbox, parcel, path, reason, attempts=0)
            taken.refused += filed is not None
        self._refused.clear()
        discard(self._means.disk, folders, parcel)
        self._tell_denied(got.denied)

    def _tell_denied(self, denied: list[tuple[bytes, OSError]]) -> None:
        """Say once of each file that the system keeps it from us; raise if it is the disk that is in trouble."""
        for path, error in denied:
            if error.errno in _DISK_WEATHER:
                raise FolderAway(f"{self._inbox.root}: {error.strerror}") from error
            if path not in self._told and len(self._told) < _TOLD_MAX:
                self._told.add(path)
                self._log.warning(
                    log.FILE_DENIED,
                    file=path,
                    error=error.strerror,
                    remedy="let inbox/ and its sub-folders belong to the service, or permit its group to write there",
                )
