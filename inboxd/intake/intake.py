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
from inboxd.intake.batching import Candidate, files_per_parcel, may_leave, next_bundle
from inboxd.intake.in_flight import Flight
from inboxd.intake.packing import pack, parcel_of, settle
from inboxd.intake.readiness import Patience
from inboxd.intake.ready_files import Gathering, Looked
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.payload import Parcel
from inboxd.messaging.worker_registry import Helpers
from inboxd.spool.claims import ClaimResult, claim, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.layout import Folders, new_parcel_id, open_folders

TURN_SECONDS = 0.1
"""An inbox gives way to the others when it has sent files for so long."""

REFUSED_A_TURN = 100
NO_LIMIT = 1 << 62


@dataclass(slots=True)
class Taken:
    """What one turn did: the look, if there was one. ``more`` asks for another at once; ``held`` files wait for a parcel.

    ``cut`` says that the turn has taken long enough, and left files for the next.
    """

    looked: Looked | None
    claimed: int = 0
    refused: int = 0
    held: bool = False
    cut: bool = False

    @property
    def more(self) -> bool:
        """Whether part of the scan, or of what it has found, is left."""
        return self.cut or (self.looked is not None and self.looked.more)


@dataclass(frozen=True, slots=True)
class Means:
    """What an intake works with; tests hand in their own."""

    disk: Disk
    leases: Leases
    send: Callable[[Parcel, Inbox], None]
    host: str
    grace_seconds: float
    tally: Tally = field(default_factory=Tally)
    helpers: Helpers | None = None

    def carries(self, files: int) -> bool:
        """Tell whether a parcel of so many files carries their bytes: a lone file's does, and where who takes it needs them."""
        return files == 1 or self.helpers is None or self.helpers.needed


class Intake:
    """One inbox's way in."""

    def __init__(self, means: Means, inbox: Inbox, patience: Patience, *, network: bool) -> None:
        """``network`` says that the folders are on another machine, whose clock the files' times are by."""
        self._means = means
        self._inbox = inbox
        self._gathering = Gathering(means.disk, inbox, patience, network=network)
        self._flight = Flight(inbox)
        self._log = get_logger(__name__).bind(inbox=inbox.name)
        self._pace: float | None = None
        self._own_pace: float | None = None
        self._unsent: list[Parcel] = []

    @property
    def resting(self) -> bool:
        """Whether the next look begins a new scan: what arrives before it will be seen."""
        return self._gathering.resting

    def take(self, found_by: str, *, look: bool = True, hold: bool = True) -> Taken:
        """Take one turn: look at some entries (or only at what is ready already), and send as far as the limits allow.

        ``hold`` files for company, where parcels are on their way; not for who does not come back soon.

        Raises FolderAway (nothing is known about the inbox just now) or BrokerAway (what is claimed already is sent first on
        the next turn); both leave every file where the next turn finds it.
        """
        try:
            with open_folders(self._means.disk, self._inbox.root) as folders:
                self._send_again()
                self._flight.look(self._means.disk, folders)
                looks = look or not self._gathering.resting
                taken = Taken(self._gathering.look(folders, self._flight.room) if looks else None)
                self._file_refused(folders, taken)
                self._send_ready(folders, found_by, taken, until=time.monotonic() + TURN_SECONDS, hold=hold)
        except OSError as error:
            self._gathering.forget()
            raise FolderUnavailable(f"{self._inbox.root}: {error.strerror or error}") from error
        except FolderUnavailable:
            self._gathering.forget()
            raise
        return taken

    def _send_ready(self, folders: Folders, found_by: str, taken: Taken, *, until: float, hold: bool) -> None:
        carried_max = self._inbox.parcel_bytes_max if self._means.carries(files=2) else NO_LIMIT
        for ready, bytes_max in ((self._gathering.small, carried_max), (self._gathering.large, NO_LIMIT)):
            while ready:
                target = files_per_parcel(self._pace, self._inbox.parcel_files_max, self._own_pace)
                room = self._flight.room
                bundle = next_bundle(ready.values(), min(target, max(room, 1)), bytes_max)
                files = target if len(bundle) < len(ready) else len(bundle)  # it is as full as it gets, or all there is
                if room <= 0 or (hold and not may_leave(files, target, self._pace, self._flight.young)):
                    taken.held = True
                    break
                self._dispatch(folders, ready, bundle, found_by, taken)
                if time.monotonic() > until:
                    taken.cut = self._gathering.ready > 0
                    break
        stopped = not self._gathering.resting and not taken.more  # for want of room, in the middle of a scan
        taken.held = taken.held or stopped or self._gathering.ready > 0

    def _dispatch(
        self, folders: Folders, ready: dict[bytes, Candidate], bundle: list[Candidate], found_by: str, taken: Taken
    ) -> None:
        """Walk one parcel through its steps: lease, claim, pack, send."""
        parcel = new_parcel_id()
        # If we die here: a lease without a parcel, which expires.
        self._pace = self._means.leases.queue(parcel, self._inbox.name, self._means.grace_seconds)
        begun = time.monotonic()
        got = self._claim(folders, parcel, [file.path for file in bundle])
        for file in bundle:
            del ready[file.path]
        if got.claimed:
            # If we die here: a parcel whose lease lapses, which recovery publishes.
            expected = {file.path: file.version for file in bundle}
            carry = self._means.carries(len(got.claimed))
            packed = pack(self._means.disk, folders, self._inbox, parcel, got.claimed, expected, carry=carry)
            self._own_pace = (time.monotonic() - begun) / len(got.claimed)
            refused = settle(self._means.disk, folders, self._inbox, parcel, packed)
            taken.refused += refused
            self._means.tally.count_filed(self._inbox.name, REFUSED, files=refused)
            self._send(parcel_of(packed, parcel, self._inbox, self._means.host), found_by, taken)
        self._tell(got.denied)

    def _claim(self, folders: Folders, parcel: str, paths: list[bytes]) -> ClaimResult:
        got = claim(self._means.disk, folders, parcel, paths)
        if not got.claimed:
            self._means.leases.delete(parcel)
        return got

    def _send(self, parcel: Parcel, found_by: str, taken: Taken) -> None:
        if not parcel.files:
            return
        self._flight.add(parcel)
        taken.claimed += len(parcel.files)
        self._means.tally.count_found(self._inbox.name, found_by, len(parcel.files))
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
            self._means.send(parcel, self._inbox)
        except BrokerUnavailable:
            self._unsent.append(parcel)
            raise

    def _send_again(self) -> None:
        """Send what an absent broker did not take; copies are dropped at their start."""
        while self._unsent:
            self._means.send(self._unsent[0], self._inbox)
            del self._unsent[0]

    def _file_refused(self, folders: Folders, taken: Taken) -> None:
        """Move what can't be accepted to failed/, by way of a parcel like every file."""
        refused = self._gathering.refused
        while refused:
            some = dict(islice(refused.items(), REFUSED_A_TURN))
            parcel = new_parcel_id()
            self._means.leases.queue(parcel, self._inbox.name, self._means.grace_seconds)
            got = self._claim(folders, parcel, list(some))
            for path in some:
                del refused[path]
            for path in got.claimed:
                filed = fail_file(self._means.disk, folders, self._inbox, parcel, path, some[path], attempts=0)
                taken.refused += filed is not None
                self._means.tally.count_filed(self._inbox.name, REFUSED, files=int(filed is not None))
            if got.claimed:
                remove_if_empty(self._means.disk, folders, parcel)
            self._tell(got.denied)

    def _tell(self, denied: list[tuple[bytes, OSError]]) -> None:
        """Leave alone what the system keeps from us; raise FolderAway if it is the disk that is in trouble."""
        for path, error in denied:
            if is_inbox_wide(self._means.disk, self._inbox.root, error):
                raise FolderUnavailable(f"{self._inbox.root}: {error.strerror}") from error
            self._gathering.deny(path, error)
