"""One watched inbox: when to look at it next, and what keeps it from being looked at."""

import math
from dataclasses import dataclass, field
from pathlib import PurePath

from inboxd.config.settings import Inbox
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk, closing
from inboxd.intake.intake import Intake, IntakeResult
from inboxd.intake.ready_files import ScanResult
from inboxd.intake.watch_mode import WatchMode
from inboxd.spool.layout import CLAIMED, INBOX

RESCAN_SECONDS = 10.0
"""How often an inbox is looked at though no event came: events can be lost."""

EARLY_SECONDS = 1.0
"""… or so much sooner, together with others: to wake up for each of a hundred costs more than to look at it."""

WAITING_CHECK_SECONDS = 1.0
"""Files that wait for a parcel to return are looked after so often, should the event of its return be lost."""

UNAVAILABLE_SECONDS = (0.5, 30.0)
"""First and longest wait before a folder that is away is looked for again; it doubles in between."""

SHORT_SCAN_SECONDS = 0.05
SCAN_REST_FACTOR = 10.0
"""Scans that are not short may take a tenth of the time, and half of it where something is known to have come."""

Identity = tuple[int, int, int, int]


def folder_identity(disk: Disk, root: PurePath, mount: int | None = None) -> Identity:
    """Return what tells an inbox's folders from others at the same path: device, inodes, mount. Raises OSError.

    Who knows that no mount has changed gives the ``mount`` as it was: to ask costs more than all the rest.
    """
    with closing(disk, disk.open_root(root)) as top:
        inbox, claimed = disk.stat(top, INBOX), disk.stat(top, CLAIMED)
        return inbox.dev, inbox.ino, claimed.ino, disk.mount_id(top) if mount is None else mount


@dataclass(slots=True)
class WatchedInbox:
    """What the daemon knows of one inbox. Times are of the monotonic clock."""

    inbox: Inbox
    intake: Intake
    mount: Mount
    mode: WatchMode
    identity: Identity | None
    due: float = 0.0
    early: float = 0.0
    has_news: bool = True
    scan: bool = True
    is_busy: bool = False
    reason: str = "start"
    outage: str | None = None
    scan_at: float = 0.0
    """When to look though no event came …"""
    scan_early: float = 0.0
    known_at: float = math.inf
    """… or a file is known to be complete …"""
    news_at: float = math.inf
    """… or has arrived, and settled …"""
    rest_until: float = 0.0
    """… but not before: the last scan was long."""
    away_seconds: float = field(default=UNAVAILABLE_SECONDS[0])

    def on_arrival(self, now: float) -> None:
        """Note that something has arrived: a file can be complete once it has settled, and not before."""
        self.has_news = True
        self.reason = "event"
        self._expect(now)
        if self.news_at <= self.due:  # else files in hand go first
            self.due, self.scan = self.news_at, True
        self.early = 0.0

    def on_scan_start(self) -> None:
        """Note that a scan begins: it will see what has arrived."""
        self.has_news, self.news_at = False, math.inf

    def _expect(self, now: float) -> None:
        self.news_at = min(self.news_at, max(now + self.inbox.settle_seconds, self.rest_until))

    def request_scan(self, reason: str) -> None:
        """Note that the whole inbox is to be looked at."""
        self.has_news = self.scan = True
        self.reason = reason
        self.due = -math.inf

    def is_due(self, now: float) -> bool:
        """Tell whether to look at it now, that we are awake."""
        return self.due - self.early <= now

    def schedule(self, taken: IntakeResult, now: float) -> None:
        """Decide when to look next, after a turn."""
        self.is_busy = taken.has_more or taken.is_waiting
        self.scan = True
        if taken.scan is not None and not taken.scan.has_more:
            self._note(taken.scan, now)
        if taken.has_more:
            self.due, self.early = now, 0.0
            self.scan = not taken.is_interrupted  # what is in hand goes first
            return
        self.due, self.early, self.reason = self.scan_at, self.scan_early, "scan"
        if self.has_news:
            self._expect(now)
            self.due, self.reason = min(self.due, self.news_at), "event"
        if self.known_at < self.due:
            self.due, self.reason = self.known_at, "event" if self.mode.uses_events else "scan"
        self.due = max(self.due, self.rest_until)
        if taken.is_waiting and self.due > now + WAITING_CHECK_SECONDS:
            self.due, self.scan = now + WAITING_CHECK_SECONDS, False
        if self.due < self.scan_at:
            self.early = 0.0

    def _note(self, looked: ScanResult, now: float) -> None:
        """Note when the next scan is worth its cost, after a look."""
        cost = looked.rescan_seconds if looked.rescan_seconds > SHORT_SCAN_SECONDS else 0.0
        wait = RESCAN_SECONDS if self.mode.uses_events and not looked.has_folders else self.inbox.poll_seconds
        wait = max(wait if looked.recheck_in is None else min(wait, looked.recheck_in), cost * SCAN_REST_FACTOR)
        self.scan_at, self.scan_early = now + wait, EARLY_SECONDS if wait == RESCAN_SECONDS else 0.0
        self.rest_until = now + cost
        self.known_at = math.inf if looked.ready_in is None else now + looked.ready_in

    def on_parcel_returned(self, now: float) -> None:
        """Note that a parcel has returned: if files wait for that, there is room for them, and no need to look for others."""
        if self.is_busy and now < self.due:
            self.due, self.early = now, 0.0
            self.scan = False

    def set_unavailable(self, why: str, now: float) -> bool:
        """Note that the folders are away, and when to look for them again; True if that is news."""
        news = self.outage != why
        self.outage = why
        self.due, self.early, self.scan = now + self.away_seconds, 0.0, True  # what was in hand is forgotten
        self.scan_at, self.known_at, self.rest_until = self.due, math.inf, 0.0
        self.away_seconds = min(self.away_seconds * 2, UNAVAILABLE_SECONDS[1])
        return news

    def set_available(self) -> bool:
        """Note that the folders are there; True if that is news."""
        news = self.outage is not None
        self.outage = None
        self.away_seconds = UNAVAILABLE_SECONDS[0]
        return news
