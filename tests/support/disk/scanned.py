"""Scan an inbox and return its entries or their decisions."""

from support.disk.spools import NO_WAITS, Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.readiness import Decision, WaitTimes
from inboxd.intake.scan import DeniedEntry, ScannedEntry, ScannedFolder, scan

FAR_FUTURE = 1e12
"""A time at which every file is old enough, in unix seconds."""


def look(
    spool: Spool, disk: Disk | None = None, now: float = FAR_FUTURE, patience: WaitTimes = NO_WAITS, **rules: object
) -> list[ScannedEntry | ScannedFolder | DeniedEntry]:
    with spool.folders() as folders:
        return list(scan(disk or Disk(), folders.inbox, spool.inbox(**rules), patience, lambda: now))


def decisions(spool: Spool, disk: Disk | None = None, now: float = FAR_FUTURE, **rules: object) -> dict[bytes, Decision]:
    return {entry.path: entry.decision for entry in look(spool, disk, now, **rules) if isinstance(entry, ScannedEntry)}
