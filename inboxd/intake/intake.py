"""Taking files in: scan, decide, claim, pack, send. The watcher does it for every hint, the sweep for what was missed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from inboxd.broker.counters import REFUSED, Tally
from inboxd.broker.leases import Leases
from inboxd.broker.outages import is_inbox_wide
from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import Candidate, files_per_parcel, may_send, next_batch
from inboxd.intake.in_flight import InFlight
from inboxd.intake.packing import build_parcel, file_or_release_rest, pack
from inboxd.intake.readiness import WaitTimes
from inboxd.intake.ready_files import ReadyFiles, ScanResult
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.payload import Parcel
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.spool.claims import ClaimResult, claim, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.layout import Folders, new_parcel_id, open_folders

TURN_SECONDS = 0.1
"""An inbox gives way to the others when it has sent files for so long."""

REFUSED_PER_PARCEL = 100
NO_LIMIT = 1 << 62


@dataclass(slots=True)
class IntakeResult:
    """What one turn did: the look, if there was one. ``more`` asks for another at once; ``held`` files wait for a parcel.

    ``cut`` says that the turn has taken long enough, and left files for the next.
    """

    scan: ScanResult | None
    claimed: int = 0
    refused: int = 0
    is_waiting: bool = False
    is_interrupted: bool = False

    @property
    def has_more(self) -> bool:
        """Whether part of the scan, or of what it has found, is left."""
        return self.is_interrupted or (self.scan is not None and self.scan.has_more)


@dataclass(frozen=True, slots=True)
class IntakeDeps:
    """What an intake works with; tests hand in their own."""

    disk: Disk
    leases: Leases
    send: Callable[[Parcel, Inbox], None]
    host: str
    grace_seconds: float
    tally: Tally = field(default_factory=Tally)
    registry: WorkerRegistry | None = None

    def sends_inline(self, files: int) -> bool:
        """Tell whether a parcel of so many files carries their bytes: a lone file's does, and where who takes it needs them."""
        return files == 1 or self.registry is None or self.registry.needs_inline


class Intake:
    """One inbox's way in."""

    def __init__(self, deps: IntakeDeps, inbox: Inbox, patience: WaitTimes, *, network: bool) -> None:
        """``network`` says that the folders are on another machine, whose clock the files' times are by."""
        self._deps = deps
        self._inbox = inbox
        self._ready_files = ReadyFiles(deps.disk, inbox, patience, network=network)
        self._in_flight = InFlight(inbox)
        self._log = get_logger(__name__).bind(inbox=inbox.name)
        self._seconds_per_file: float | None = None
        self._packing_seconds_per_file: float | None = None
        self._unsent: list[Parcel] = []

    @property
    def is_between_scans(self) -> bool:
        """Whether the next look begins a new scan: what arrives before it will be seen."""
        return self._ready_files.is_between_scans

    def run_turn(self, found_by: str, *, scan: bool = True, wait_for_more: bool = True) -> IntakeResult:
        """Take one turn: look at some entries (or only at what is ready already), and send as far as the limits allow.

        ``hold`` files for company, where parcels are on their way; not for who does not come back soon.

        Raises FolderAway (nothing is known about the inbox just now) or BrokerAway (what is claimed already is sent first on
        the next turn); both leave every file where the next turn finds it.
        """
        try:
            with open_folders(self._deps.disk, self._inbox.root) as folders:
                self._send_again()
                self._in_flight.refresh(self._deps.disk, folders)
                looks = scan or not self._ready_files.is_between_scans
                taken = IntakeResult(self._ready_files.advance(folders, self._in_flight.capacity) if looks else None)
                self._file_refused(folders, taken)
                self._send_ready(folders, found_by, taken, until=time.monotonic() + TURN_SECONDS, hold=wait_for_more)
        except OSError as error:
            self._ready_files.reset()
            raise FolderUnavailable(f"{self._inbox.root}: {error.strerror or error}") from error
        except FolderUnavailable:
            self._ready_files.reset()
            raise
        return taken

    def _send_ready(self, folders: Folders, found_by: str, taken: IntakeResult, *, until: float, hold: bool) -> None:
        carried_max = self._inbox.parcel_bytes_max if self._deps.sends_inline(files=2) else NO_LIMIT
        for ready, bytes_max in ((self._ready_files.small, carried_max), (self._ready_files.large, NO_LIMIT)):
            while ready:
                target = files_per_parcel(self._seconds_per_file, self._inbox.parcel_files_max, self._packing_seconds_per_file)
                room = self._in_flight.capacity
                bundle = next_batch(ready.values(), min(target, max(room, 1)), bytes_max)
                files = target if len(bundle) < len(ready) else len(bundle)  # it is as full as it gets, or all there is
                if room <= 0 or (hold and not may_send(files, target, self._seconds_per_file, self._in_flight.recent_parcels)):
                    taken.is_waiting = True
                    break
                self._dispatch(folders, ready, bundle, found_by, taken)
                if time.monotonic() > until:
                    taken.is_interrupted = self._ready_files.count > 0
                    break
        stopped = not self._ready_files.is_between_scans and not taken.has_more  # for want of room, in the middle of a scan
        taken.is_waiting = taken.is_waiting or stopped or self._ready_files.count > 0

    def _dispatch(
        self, folders: Folders, ready: dict[bytes, Candidate], bundle: list[Candidate], found_by: str, taken: IntakeResult
    ) -> None:
        """Walk one parcel through its steps: lease, claim, pack, send."""
        parcel = new_parcel_id()
        # If we die here: a lease without a parcel, which expires.
        self._seconds_per_file = self._deps.leases.queue(parcel, self._inbox.name, self._deps.grace_seconds)
        begun = time.monotonic()
        got = self._claim(folders, parcel, [file.path for file in bundle])
        for file in bundle:
            del ready[file.path]
        if got.claimed:
            # If we die here: a parcel whose lease lapses, which recovery publishes.
            expected = {file.path: file.version for file in bundle}
            carry = self._deps.sends_inline(len(got.claimed))
            packed = pack(self._deps.disk, folders, self._inbox, parcel, got.claimed, expected, carry=carry)
            self._packing_seconds_per_file = (time.monotonic() - begun) / len(got.claimed)
            refused = file_or_release_rest(self._deps.disk, folders, self._inbox, parcel, packed)
            taken.refused += refused
            self._deps.tally.count_filed(self._inbox.name, REFUSED, files=refused)
            self._send(build_parcel(packed, parcel, self._inbox, self._deps.host), found_by, taken)
        self._set_denied(got.denied)

    def _claim(self, folders: Folders, parcel: str, paths: list[bytes]) -> ClaimResult:
        got = claim(self._deps.disk, folders, parcel, paths)
        if not got.claimed:
            self._deps.leases.delete(parcel)
        return got

    def _send(self, parcel: Parcel, found_by: str, taken: IntakeResult) -> None:
        if not parcel.files:
            return
        self._in_flight.add(parcel)
        taken.claimed += len(parcel.files)
        self._deps.tally.count_found(self._inbox.name, found_by, len(parcel.files))
        for part in parcel.files:
            self._log.info(
                events.FILE_CLAIMED,
                file=part.filename,
                parcel=parcel.id,
                size=part.content_length,
                sha256=part.headers.get("sha256"),
                file_id=part.headers.get("id"),
                found_by=found_by,
            )
        try:
            self._deps.send(parcel, self._inbox)
        except BrokerUnavailable:
            self._unsent.append(parcel)
            raise

    def _send_again(self) -> None:
        """Send what an absent broker did not take; copies are dropped at their start."""
        while self._unsent:
            self._deps.send(self._unsent[0], self._inbox)
            del self._unsent[0]

    def _file_refused(self, folders: Folders, taken: IntakeResult) -> None:
        """Move what can't be accepted to failed/, by way of a parcel like every file."""
        refused = self._ready_files.refused
        while refused:
            some = dict(islice(refused.items(), REFUSED_PER_PARCEL))
            parcel = new_parcel_id()
            self._deps.leases.queue(parcel, self._inbox.name, self._deps.grace_seconds)
            got = self._claim(folders, parcel, list(some))
            for path in some:
                del refused[path]
            for path in got.claimed:
                filed = fail_file(self._deps.disk, folders, self._inbox, parcel, path, some[path], attempts=0)
                taken.refused += filed is not None
                self._deps.tally.count_filed(self._inbox.name, REFUSED, files=int(filed is not None))
            if got.claimed:
                remove_if_empty(self._deps.disk, folders, parcel)
            self._set_denied(got.denied)

    def _set_denied(self, denied: list[tuple[bytes, OSError]]) -> None:
        """Leave alone what the system keeps from us; raise FolderAway if it is the disk that is in trouble."""
        for path, error in denied:
            if is_inbox_wide(self._deps.disk, self._inbox.root, error):
                raise FolderUnavailable(f"{self._inbox.root}: {error.strerror}") from error
            self._ready_files.set_denied(path, error)
