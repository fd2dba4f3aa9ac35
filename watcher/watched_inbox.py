"""One watched inbox: when it is looked at next, and why. All times are seconds of the monotonic clock."""

import math
from dataclasses import dataclass
from operator import itemgetter
from pathlib import PurePath

from inboxd.config.settings import Inbox
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk, closing
from inboxd.intake.intake import Intake, IntakeResult
from inboxd.intake.ready_files import ScanResult
from inboxd.intake.watch_mode import WatchMode
from inboxd.spool.layout import CLAIMED, INBOX

RESCAN_SECONDS = 10.0
"""Seconds between two scans of an inbox whose files events announce: events can be lost."""

RESCAN_SLACK_SECONDS = 1.0
"""How many seconds sooner such a scan may be, together with others: a wake-up costs more than a scan of an idle inbox."""

SEND_RETRY_SECONDS = 1.0
"""Seconds until files that wait for a parcel to return are looked after, if the event of its return is lost."""

UNAVAILABLE_SECONDS = (0.5, 30.0)
"""First and longest wait, in seconds, before folders that are unavailable are looked for again; it doubles in between."""

SHORT_SCAN_SECONDS = 0.05
"""Scans that take fewer seconds than this need no rest after them."""

SCAN_REST_FACTOR = 10.0
"""Longer scans may take a tenth of the time; half of it, where something is known to have arrived."""

START, EVENT, SCAN, OVERFLOW, REBUILT = "start", "event", "scan", "overflow", "rebuilt"
"""Why an inbox is looked at; claimed files are logged and counted with it."""

Identity = tuple[int, int, int, int]


def folder_identity(disk: Disk, root: PurePath, mount: int | None = None) -> Identity:
    """Return what tells an inbox's folders from others at the same path: device, inodes, mount. Raises OSError.

    A caller that knows that no mount has changed passes the ``mount`` as it was: to ask for it costs more than all the rest.
    """
    with closing(disk, disk.open_root(root)) as top:
        inbox, claimed = disk.stat(top, INBOX), disk.stat(top, CLAIMED)
        return inbox.dev, inbox.ino, claimed.ino, disk.mount_id(top) if mount is None else mount


@dataclass(frozen=True, slots=True)
class NextTurn:
    """When an inbox is looked at next, why, and whether it is scanned: else only files that were found before are sent.

    A daemon that is awake anyway may look up to ``slack`` seconds sooner.
    """

    at: float
    reason: str
    scan: bool = True
    slack: float = 0.0

    def is_due(self, now: float) -> bool:
        """Return whether to look now, being awake."""
        return self.at - self.slack <= now


@dataclass(slots=True)
class WatchedInbox:
    """What the daemon knows of one inbox."""

    inbox: Inbox
    intake: Intake
    mount: Mount
    mode: WatchMode
    identity: Identity | None
    outage: str | None = None
    requested: str | None = START
    """Why a scan of the whole inbox is due now; None if none is."""
    unfinished: NextTurn | None = None
    """The turn that goes on with the last one, which has left files or part of a scan."""
    rescan_at: float = 0.0
    rescan_slack: float = 0.0
    complete_at: float = math.inf
    """When the next file is known to be complete."""
    arrived_at: float = math.inf
    """When a file that an event has announced has settled."""
    send_at: float = math.inf
    """When to look after files that wait for a parcel to return."""
    rest_until: float = 0.0
    """Before this no scan begins: the last one was long."""
    retry_seconds: float = UNAVAILABLE_SECONDS[0]
    next_turn: NextTurn = NextTurn(-math.inf, START)
    """Chosen anew whenever something of the above changes: the daemon asks all its inboxes at each wake-up."""

    @property
    def is_busy(self) -> bool:
        """Whether complete files are known that are not claimed yet."""
        return self.unfinished is not None or self.send_at < math.inf

    def request_scan(self, reason: str) -> None:
        """Let the whole inbox be scanned at once."""
        self.requested = reason
        self.next_turn = self._choose()

    def on_arrival(self, now: float) -> None:
        """Note that an event has announced a file: it can be complete once it has settled, and not before."""
        self.arrived_at = min(self.arrived_at, now + self.inbox.settle_seconds)
        self.next_turn = self._choose()

    def on_parcel_returned(self, now: float) -> None:
        """Note that a parcel has returned: files that wait for that can be sent, without a scan for others."""
        if self.send_at < math.inf:
            self.send_at = min(self.send_at, now)
            self.next_turn = self._choose()

    def on_scan_start(self) -> None:
        """Note that a scan begins: it will see all that has arrived."""
        self.requested, self.arrived_at = None, math.inf
        self.next_turn = self._choose()

    def on_turn_end(self, look: NextTurn, result: IntakeResult, now: float) -> None:
        """Take in what a turn has found and left."""
        if result.scan is not None and not result.scan.has_more:
            self._plan_scan(result.scan, now)
        # a turn that ran out of time goes on with the files that it has found
        self.unfinished = NextTurn(now, look.reason, scan=not result.is_interrupted) if result.has_more else None
        self.send_at = now + SEND_RETRY_SECONDS if result.is_waiting else math.inf
        self.next_turn = self._choose()

    def _plan_scan(self, scan: ScanResult, now: float) -> None:
        """Decide when the next scan is worth its cost, after a complete one."""
        cost = scan.rescan_seconds if scan.rescan_seconds > SHORT_SCAN_SECONDS else 0.0
        wait = RESCAN_SECONDS if self.mode.uses_events and not scan.has_folders else self.inbox.poll_seconds
        wait = max(wait if scan.recheck_in is None else min(wait, scan.recheck_in), cost * SCAN_REST_FACTOR)
        self.rescan_at, self.rescan_slack = now + wait, RESCAN_SLACK_SECONDS if wait == RESCAN_SECONDS else 0.0
        self.rest_until = now + cost
        self.complete_at = math.inf if scan.ready_in is None else now + scan.ready_in

    def set_unavailable(self, why: str, now: float) -> bool:
        """Note that the folders are unavailable, and when to look for them again; True if that is new."""
        is_new = self.outage != why
        self.outage = why
        self.requested = self.unfinished = None  # what was in hand is forgotten
        self.complete_at = self.send_at = math.inf
        self.rescan_at, self.rescan_slack, self.rest_until = now + self.retry_seconds, 0.0, 0.0
        self.retry_seconds = min(self.retry_seconds * 2, UNAVAILABLE_SECONDS[1])
        self.next_turn = self._choose()
        return is_new

    def set_available(self) -> bool:
        """Note that the folders are there; True if that is new."""
        is_new = self.outage is not None
        self.outage = None
        self.retry_seconds = UNAVAILABLE_SECONDS[0]
        return is_new

    def _choose(self) -> NextTurn:
        """Return what comes first: a requested scan, an unfinished turn, files that wait, or the earliest reason to scan."""
        if self.requested is not None:
            return NextTurn(-math.inf, self.requested)
        if self.unfinished is not None:
            return self.unfinished
        known = EVENT if self.mode.uses_events else SCAN
        reason, at = min(((SCAN, self.rescan_at), (EVENT, self.arrived_at), (known, self.complete_at)), key=itemgetter(1))
        slack = self.rescan_slack if at == self.rescan_at else 0.0
        at = max(at, self.rest_until)
        return NextTurn(at, reason, slack=slack) if at <= self.send_at else NextTurn(self.send_at, reason, scan=False)
