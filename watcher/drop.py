"""One watched inbox: when to look at it next, and what keeps it from being looked at."""

import math
from dataclasses import dataclass, field
from pathlib import PurePath

from spool.disk import Disk, held
from spool.folders import CLAIMED, INBOX
from spool.intake import Intake, Taken
from spool.mounts import Mode, Mount, mount_of
from spool.settings import Inbox

RESCAN_SECONDS = 5.0
"""How often an inbox is looked at though no event came: events can be lost."""

HELD_SECONDS = 1.0
"""Files that wait for a parcel to return are looked after so often, should the event of its return be lost."""

AWAY_SECONDS = (0.5, 30.0)
"""First and longest wait before a folder that is away is looked for again; it doubles in between."""

SCAN_SHARE = 10.0
"""A periodic scan may take a tenth of the time: a large tree is looked at less often."""

Identity = tuple[int, int, int, int]


def identity(disk: Disk, root: PurePath) -> Identity:
    """Return what tells an inbox's folders from others at the same path: device, inodes, mount. Raises OSError."""
    with held(disk, disk.open_root(root)) as top:
        inbox, claimed = disk.stat(top, INBOX), disk.stat(top, CLAIMED)
        return inbox.dev, inbox.ino, claimed.ino, mount_of(disk, top).id


@dataclass(slots=True)
class Drop:
    """What the daemon knows of one inbox. Times are of the monotonic clock."""

    inbox: Inbox
    intake: Intake
    mount: Mount
    mode: Mode
    identity: Identity
    due: float = 0.0
    dirty: bool = True
    busy: bool = False
    reason: str = "start"
    trouble: str | None = None
    away_seconds: float = field(default=AWAY_SECONDS[0])

    def hint(self, now: float) -> None:
        """Note that something has arrived: a file can be complete once it has settled, and not before."""
        self.dirty = True
        self.reason = "event"
        self.due = min(self.due, now + self.inbox.settle_seconds)

    def look_now(self, reason: str) -> None:
        """Note that the whole inbox is to be looked at."""
        self.dirty = True
        self.reason = reason
        self.due = -math.inf

    def plan(self, taken: Taken, now: float, took: float) -> None:
        """Decide when to look next, after a turn that took so many seconds."""
        self.busy = taken.more or taken.held
        if taken.more:
            self.due = now
            return
        tick = RESCAN_SECONDS if self.mode.events and not taken.sub_folders else self.inbox.poll_seconds
        wait = max(tick, took * SCAN_SHARE)
        self.reason = "scan"
        if self.dirty:
            wait, self.reason = min(wait, self.inbox.settle_seconds), "event"
        if taken.held:
            wait = min(wait, HELD_SECONDS)
        if taken.due_in is not None and taken.due_in < wait:
            wait, self.reason = taken.due_in, "event" if self.mode.events else "scan"
        self.due = now + wait

    def away(self, why: str, now: float) -> bool:
        """Note that the folders are away, and when to look for them again; True if that is news."""
        news = self.trouble != why
        self.trouble = why
        self.due = now + self.away_seconds
        self.away_seconds = min(self.away_seconds * 2, AWAY_SECONDS[1])
        return news

    def back(self) -> bool:
        """Note that the folders are there; True if that is news."""
        news = self.trouble is not None
        self.trouble = None
        self.away_seconds = AWAY_SECONDS[0]
        return news
