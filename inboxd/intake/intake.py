"""Scan, decide, claim, pack, send: the intake of one inbox, run by the watcher and by the sweep for missed files."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice

from inboxd.broker.counters import REFUSED, Tally
from inboxd.broker.inbox_outages import is_inbox_wide
from inboxd.broker.leases import Leases
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import Candidate, files_per_parcel, may_send, next_batch
from inboxd.intake.in_flight import InFlight
from inboxd.intake.packing import build_parcel, dispose_of_unpacked, pack
from inboxd.intake.readiness import WaitTimes
from inboxd.intake.ready_files import ReadyFiles, ScanResult
from inboxd.intake.scan import WHOLE, ScanPart
from inboxd.intake.watch_mode import describe_sub_mount
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.payload import Parcel
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.spool.claims import ClaimResult, claim, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.layout import Folders, new_parcel_id, open_folders

TURN_SECONDS = 0.1
"""Seconds after which an inbox stops sending, so that other inboxes get their turns."""

REFUSED_PER_PARCEL = 100
"""Maximum refused entries that are claimed into one parcel."""

UNLIMITED_BYTES = 1 << 62
"""Limit of a batch whose files' content is not sent."""


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """The result of one turn: its step of the scan, if any, and how many files it claimed and refused.

    Ready files are left because the turn's time was up (``is_interrupted``), or until a parcel is filed (``is_waiting``).
    """

    scan: ScanResult | None
    claimed: int = 0
    refused: int = 0
    is_waiting: bool = False
    is_interrupted: bool = False

    @property
    def has_more(self) -> bool:
        """Whether the next turn must go on with this scan, or with the files that it has found."""
        return self.is_interrupted or (self.scan is not None and self.scan.has_more)


@dataclass(frozen=True, slots=True)
class _SendResult:
    """How many files of one list of ready files were claimed and refused, and why the others were not sent."""

    claimed: int = 0
    refused: int = 0
    is_waiting: bool = False
    is_out_of_time: bool = False

    @classmethod
    def total(cls, parts: list["_SendResult"]) -> "_SendResult":
        """Return the sum of several results."""
        return cls(
            sum(part.claimed for part in parts),
            sum(part.refused for part in parts),
            any(part.is_waiting for part in parts),
            any(part.is_out_of_time for part in parts),
        )


_NOTHING_SENT = _SendResult()


@dataclass(frozen=True, slots=True)
class IntakeDeps:
    """The dependencies of an intake; tests pass fakes."""

    disk: Disk
    leases: Leases
    send: Callable[[Parcel, Inbox], None]
    host: str
    grace_seconds: float
    tally: Tally = field(default_factory=Tally)
    registry: WorkerRegistry | None = None

    def sends_inline(self, files: int) -> bool:
        """Return whether a parcel of this many files carries their content: if it is one file, or if a worker needs it."""
        return files == 1 or self.registry is None or self.registry.needs_inline


class Intake:
    """Claims and sends the files of one inbox, in bounded turns."""

    def __init__(
        self, deps: IntakeDeps, inbox: Inbox, waits: WaitTimes, *, network: bool, later_by: float = 0.0, part: ScanPart = WHOLE
    ) -> None:
        """See ReadyFiles for ``waits``, ``network``, ``later_by`` and ``part``."""
        self._deps = deps
        self._inbox = inbox
        self._ready_files = ReadyFiles(deps.disk, inbox, waits, network=network, later_by=later_by, part=part)
        self._in_flight = InFlight(inbox)
        self._log = get_logger(__name__).bind(inbox=inbox.name)
        self._seconds_per_file: float | None = None
        self._packing_seconds_per_file: float | None = None
        self._unsent: list[Parcel] = []

    @property
    def is_between_scans(self) -> bool:
        """Whether the next turn begins a new scan, which includes all files that arrive before it."""
        return self._ready_files.is_between_scans

    def describe_sub_mounts(self) -> list[str]:
        """Return a sentence about each mount below inbox/ that the last scan has met."""
        return [describe_sub_mount(self._inbox, path, mount) for path, mount in list(self._ready_files.sub_mounts.items())]

    def run_turn(self, found_by: str, *, scan: bool = True, wait_for_more: bool = True) -> IntakeResult:
        """Scan some entries, and send ready files within the limits; without ``scan`` only an unfinished scan is continued.

        With ``wait_for_more`` a small batch waits for more files while others are in flight; the sweep, which runs seldom, does
        not wait. Raises FolderUnavailable, which discards the scan, or BrokerUnavailable, after which the next turn first sends
        the parcel that was not sent. Both leave every file where the next turn finds it.
        """
        try:
            with open_folders(self._deps.disk, self._inbox.root) as folders:
                return self._run_turn(folders, found_by, scan=scan, wait_for_more=wait_for_more)
        except OSError as error:
            self._ready_files.reset()
            raise FolderUnavailable(f"{self._inbox.root}: {error.strerror or error}") from error
        except FolderUnavailable:
            self._ready_files.reset()
            raise

    def _run_turn(self, folders: Folders, found_by: str, *, scan: bool, wait_for_more: bool) -> IntakeResult:
        self._resend()
        self._in_flight.refresh(self._deps.disk, folders)
        scanned = None
        if scan or not self._ready_files.is_between_scans:
            scanned = self._ready_files.advance(folders, self._in_flight.capacity)
        deadline = time.monotonic() + TURN_SECONDS
        refused = self._file_refused(folders, deadline) if self._ready_files.refused else 0
        sent = self._send_all_ready(folders, found_by, deadline, wait_for_more=wait_for_more)
        is_interrupted = (sent.is_out_of_time and self._ready_files.count > 0) or bool(self._ready_files.refused)
        has_more = is_interrupted or (scanned is not None and scanned.has_more)
        is_out_of_capacity = not self._ready_files.is_between_scans and not has_more
        is_waiting = is_out_of_capacity or self._ready_files.count > 0 or sent.is_waiting
        return IntakeResult(scanned, sent.claimed, refused + sent.refused, is_waiting, is_interrupted)

    def _send_all_ready(self, folders: Folders, found_by: str, deadline: float, *, wait_for_more: bool) -> _SendResult:
        """Send small files, whose content is in the message, and large ones, in parcels of their own."""
        if not self._ready_files.count:
            return _NOTHING_SENT
        small_bytes_max = self._inbox.parcel_bytes_max if self._deps.sends_inline(files=2) else UNLIMITED_BYTES
        return _SendResult.total([
            self._send_ready(folders, files, bytes_max, found_by, deadline, wait_for_more=wait_for_more)
            for files, bytes_max in ((self._ready_files.small, small_bytes_max), (self._ready_files.large, UNLIMITED_BYTES))
        ])  # fmt: skip

    def _send_ready(
        self,
        folders: Folders,
        ready: dict[bytes, Candidate],
        bytes_max: int,
        found_by: str,
        deadline: float,
        *,
        wait_for_more: bool,
    ) -> _SendResult:
        claimed = refused = 0
        while ready:
            batch = self._choose_batch(ready, bytes_max, wait_for_more=wait_for_more)
            if not batch:
                return _SendResult(claimed, refused, is_waiting=True)
            claimed_now, refused_now = self._send_batch(folders, ready, batch, found_by)
            claimed, refused = claimed + claimed_now, refused + refused_now
            if time.monotonic() > deadline:
                return _SendResult(claimed, refused, is_out_of_time=True)
        return _SendResult(claimed, refused)

    def _choose_batch(self, ready: dict[bytes, Candidate], bytes_max: int, *, wait_for_more: bool) -> list[Candidate]:
        """Return the files of the next parcel; an empty list if they have to wait."""
        target = files_per_parcel(self._seconds_per_file, self._inbox.files_per_parcel_max, self._packing_seconds_per_file)
        capacity = self._in_flight.capacity
        if capacity <= 0:
            return []
        batch = next_batch(ready.values(), min(target, capacity), bytes_max)
        files = target if len(batch) < len(ready) else len(batch)  # a batch that leaves files over counts as full
        if wait_for_more and not may_send(files, target, self._seconds_per_file, self._in_flight.recent_parcels):
            return []
        return batch

    def _send_batch(
        self, folders: Folders, ready: dict[bytes, Candidate], batch: list[Candidate], found_by: str
    ) -> tuple[int, int]:
        """Lease, claim, pack and send one batch; return how many files were claimed and refused."""
        parcel = new_parcel_id()
        # If we die here: a lease without a parcel remains, and expires.
        mean = self._deps.leases.queue(parcel, self._inbox.name, self._deps.grace_seconds)
        self._seconds_per_file = 0.0 if self._inbox.task else mean  # another app's workers report none
        started = time.monotonic()
        by_copy = {file.path for file in batch if file.by_copy}
        result = self._claim(folders, parcel, [file.path for file in batch], by_copy)
        for file in batch:
            del ready[file.path]
        claimed = refused = 0
        if result.claimed:
            # If we die here: a parcel without a message remains; when its lease lapses, the stale sweep publishes it.
            expected = {file.path: file.version for file in batch}
            inline = self._deps.sends_inline(len(result.claimed))
            packed = pack(self._deps.disk, folders, self._inbox, parcel, result.claimed, expected, inline=inline)
            self._packing_seconds_per_file = (time.monotonic() - started) / len(result.claimed)
            claimed, refused = len(packed.parts), dispose_of_unpacked(self._deps.disk, folders, self._inbox, parcel, packed)
            self._deps.tally.count_filed(self._inbox.name, REFUSED, files=refused)
            self._send(build_parcel(packed, parcel, self._inbox, self._deps.host), found_by)
        self._set_denied(result.denied)
        return claimed, refused

    def _claim(self, folders: Folders, parcel: str, paths: list[bytes], by_copy: Collection[bytes] = ()) -> ClaimResult:
        result = claim(self._deps.disk, folders, parcel, paths, by_copy)
        if not result.claimed:
            self._deps.leases.delete(parcel)
        return result

    def _send(self, parcel: Parcel, found_by: str) -> None:
        if not parcel.files:
            return
        self._in_flight.add(parcel)
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

    def _resend(self) -> None:
        """Send parcels that an unavailable broker did not accept; if it did, the worker ignores the duplicate message."""
        while self._unsent:
            self._deps.send(self._unsent[0], self._inbox)
            del self._unsent[0]

    def _file_refused(self, folders: Folders, deadline: float) -> int:
        """Move refused entries to failed/, through a parcel like every file, until the deadline; return how many were moved."""
        pending, count = self._ready_files.refused, 0
        while pending and (not count or time.monotonic() < deadline):
            failures = dict(islice(pending.items(), REFUSED_PER_PARCEL))
            parcel = new_parcel_id()
            self._deps.leases.queue(parcel, self._inbox.name, self._deps.grace_seconds)
            result = self._claim(folders, parcel, list(failures))
            for path in failures:
                del pending[path]
            for path in result.claimed:
                is_filed = (
                    fail_file(self._deps.disk, folders, self._inbox, parcel, path, failures[path], attempts=0) is not None
                )
                self._deps.tally.count_filed(self._inbox.name, REFUSED, files=int(is_filed))
                count += is_filed
            if result.claimed:
                remove_if_empty(self._deps.disk, folders, parcel)
            self._set_denied(result.denied)
        return count

    def _set_denied(self, denied: list[tuple[bytes, OSError]]) -> None:
        """Skip files that could not be claimed for a while. Raises FolderUnavailable if the error concerns the whole inbox.

        A file that was written to while it was copied from another mount waits for the next scan only.
        """
        for path, error in denied:
            if isinstance(error, BlockingIOError):
                continue
            if is_inbox_wide(self._deps.disk, self._inbox.root, error):
                raise FolderUnavailable(f"{self._inbox.root}: {error.strerror}") from error
            self._ready_files.set_denied(path, error)
