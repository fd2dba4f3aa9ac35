"""One watched inbox: when its next turn is due, and why. All times are seconds of the monotonic clock."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import PurePath

from inboxd.broker.heartbeat import InboxReport
from inboxd.config.rules import Inbox
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk, closing
from inboxd.intake.intake import Intake, IntakeResult
from inboxd.intake.ready_files import ScanResult
from inboxd.intake.watch_mode import WatchMode
from inboxd.spool.layout import CLAIMED, INBOX

RESCAN_SECONDS = 10.0
"""Seconds between scans of an inbox that is watched by events, because events can be lost."""

RESCAN_SLACK_SECONDS = 1.0
"""How many seconds early such a scan may run, to share a wake-up, which costs more than the scan of an idle inbox."""

SEND_RETRY_SECONDS = 1.0
"""Seconds until waiting files are tried again, if the event that a parcel was filed is lost."""

UNAVAILABLE_SECONDS = (0.5, 30.0)
"""First and longest delay before unavailable folders are tried again, in seconds; the delay doubles each time."""

SHORT_SCAN_SECONDS = 0.05
"""Scans that take less than this need no pause after them."""

SCAN_PAUSE_FACTOR = 10.0
"""Longer scans use at most a tenth of the time; half of it while arrivals are known."""

START, EVENT, SCAN, OVERFLOW, REBUILT = "start", "event", "scan", "overflow", "rebuilt"
"""Reasons for a turn, by which claimed files are logged and counted."""

Identity = tuple[int, int, int, int]


def folder_identity(disk: Disk, root: PurePath, mount: int | None = None) -> Identity:
    """Return device, inodes and mount id, which change when an inbox's folders are replaced. Raises OSError.

    A caller that knows that no mount has changed passes the known mount id, because querying it is the most expensive step.
    """
    with closing(disk, disk.open_root(root)) as root_fd:
        inbox, claimed = disk.stat(root_fd, INBOX), disk.stat(root_fd, CLAIMED)
        return inbox.dev, inbox.ino, claimed.ino, disk.mount_id(root_fd) if mount is None else mount


@dataclass(frozen=True, slots=True)
class NextTurn:
    """When the next turn is due and why; without ``scan`` it only sends files that were found before.

    A daemon that is awake anyway may run the turn up to ``slack`` seconds early.
    """

    at: float
    reason: str
    scan: bool = True
    slack: float = 0.0

    def is_due(self, now: float) -> bool:
        """Return whether an awake daemon runs the turn now."""
        return self.at - self.slack <= now


@dataclass(slots=True)
class WatchedInbox:
    """The daemon's state of one inbox."""

    inbox: Inbox
    intake: Intake
    mount: Mount
    mode: WatchMode
    identity: Identity | None
    outage: str | None = None
    requested_reason: str | None = START
    """Why a scan of the whole inbox is due now; None if it is not."""
    unfinished_turn: NextTurn | None = None
    """The turn that continues the last one, which left files or part of a scan."""
    rescan_at: float = 0.0
    rescan_slack: float = 0.0
    complete_at: float = math.inf
    """When the next file that is still settling will be complete."""
    arrived_at: float = math.inf
    """When the first file that an event has announced will have settled."""
    send_at: float = math.inf
    """When to try again to send files that wait for a parcel to be filed."""
    pause_until: float = 0.0
    """When the pause after a long scan ends; no scan begins before."""
    retry_seconds: float = UNAVAILABLE_SECONDS[0]
    next_turn: NextTurn = NextTurn(-math.inf, START)
    """Cached choice, renewed whenever a field above changes, because the daemon reads it of all inboxes at each wake-up."""

    def report(self, outage: str = "", parts: Sequence[InboxReport] = ()) -> InboxReport:
        """Return the report of this inbox; ``outage`` precedes its own; ``parts`` of it have other loops."""
        return InboxReport(
            self.mode.name,
            self.mode.reason,
            self.is_busy,
            outage or self.outage,
            [*self.intake.describe_sub_mounts(), *(sentence for part in parts for sentence in part.sub_mounts)],
            [part.outage for part in parts if part.outage],
        )

    @property
    def is_busy(self) -> bool:
        """Whether complete files are known that are not yet claimed."""
        return self.unfinished_turn is not None or self.send_at < math.inf

    def request_scan(self, reason: str) -> None:
        """Have the whole inbox scanned in the next turn."""
        self.requested_reason = reason
        self.next_turn = self._choose()

    def on_arrival(self, now: float) -> None:
        """Schedule a scan for when the file that an event announced will have settled."""
        self.arrived_at = min(self.arrived_at, now + self.inbox.settle_seconds)
        self.next_turn = self._choose()

    def on_parcel_removed(self, now: float) -> None:
        """Schedule a turn without a scan if files wait for a parcel to be filed."""
        if self.send_at < math.inf:
            self.send_at = min(self.send_at, now)
            self.next_turn = self._choose()

    def on_scan_start(self) -> None:
        """Clear the requests that the beginning scan fulfils: it includes all files that have arrived."""
        self.requested_reason, self.arrived_at = None, math.inf
        self.next_turn = self._choose()

    def on_turn_end(self, turn: NextTurn, result: IntakeResult, now: float) -> None:
        """Schedule the next turn from the result of this one."""
        if result.scan is not None and not result.scan.has_more:
            self._plan_scan(result.scan, now)
        # an interrupted turn continues with the files that it has found
        self.unfinished_turn = NextTurn(now, turn.reason, scan=not result.is_interrupted) if result.has_more else None
        self.send_at = now + SEND_RETRY_SECONDS if result.is_waiting else math.inf
        self.next_turn = self._choose()

    def _plan_scan(self, scan: ScanResult, now: float) -> None:
        """Schedule the next scan after a complete one, in proportion to its duration."""
        pause = scan.rescan_seconds if scan.rescan_seconds > SHORT_SCAN_SECONDS else 0.0
        wait = RESCAN_SECONDS if self.mode.uses_events and not scan.has_folders else self.inbox.poll_seconds
        wait = max(wait if scan.recheck_in is None else min(wait, scan.recheck_in), pause * SCAN_PAUSE_FACTOR)
        self.rescan_at, self.rescan_slack = now + wait, RESCAN_SLACK_SECONDS if wait == RESCAN_SECONDS else 0.0
        self.pause_until = now + pause
        self.complete_at = math.inf if scan.ready_in is None else now + scan.ready_in

    def set_unavailable(self, outage: str, now: float) -> bool:
        """Mark the folders as unavailable and schedule the next try; return whether the outage or its reason is new."""
        is_new = self.outage != outage
        self.outage = outage
        self.requested_reason = self.unfinished_turn = None  # the next turn scans
        self.complete_at = self.send_at = math.inf
        self.rescan_at, self.rescan_slack, self.pause_until = now + self.retry_seconds, 0.0, 0.0
        self.retry_seconds = min(self.retry_seconds * 2, UNAVAILABLE_SECONDS[1])
        self.next_turn = self._choose()
        return is_new

    def set_available(self) -> bool:
        """Mark the folders as available; return whether they were unavailable before."""
        was_unavailable = self.outage is not None
        self.outage = None
        self.retry_seconds = UNAVAILABLE_SECONDS[0]
        return was_unavailable

    def _choose(self) -> NextTurn:
        """Return the next turn: a requested scan, an unfinished turn, waiting files, or the earliest reason to scan."""
        if self.requested_reason is not None:
            return NextTurn(-math.inf, self.requested_reason)
        if self.unfinished_turn is not None:
            return self.unfinished_turn
        if (
            self.send_at < math.inf and not self.intake.is_between_scans
        ):  # full in-flight limits stop a scan: no other can begin
            return NextTurn(self.send_at, SCAN, scan=False)
        completion = EVENT if self.mode.uses_events else SCAN
        reason, at = min(((SCAN, self.rescan_at), (EVENT, self.arrived_at), (completion, self.complete_at)), key=itemgetter(1))
        slack = self.rescan_slack if at == self.rescan_at else 0.0
        at = max(at, self.pause_until)
        return NextTurn(at, reason, slack=slack) if at <= self.send_at else NextTurn(self.send_at, reason, scan=False)
