"""Looking through an inbox: what a scan says of each entry."""

from support.disk.spools import AT_ONCE, Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.readiness import Decision, WaitTimes
from inboxd.intake.scan import DeniedEntry, ScannedEntry, ScannedFolder, scan

FAR = 1e12
"""So late that every file is old enough."""


def look(
    spool: Spool, disk: Disk | None = None, now: float = FAR, patience: WaitTimes = AT_ONCE, **rules: object
) -> list[ScannedEntry | ScannedFolder | DeniedEntry]:
    with spool.folders() as folders:
        return list(scan(disk or Disk(), folders.inbox, spool.inbox(**rules), patience, lambda: now))


def decisions(spool: Spool, disk: Disk | None = None, now: float = FAR, **rules: object) -> dict[bytes, Decision]:
    return {entry.path: entry.decision for entry in look(spool, disk, now, **rules) if isinstance(entry, ScannedEntry)}
