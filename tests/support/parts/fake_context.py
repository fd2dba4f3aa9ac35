"""Intakes and context put together from real and fake parts."""

from dataclasses import replace
from pathlib import PurePath

from support.disk.spools import AT_ONCE, Spool
from support.parts.fakes import FakeCounters, FakeLeases, FakeProgress, NoQueues, Sent

from inboxd.config.settings import Inbox, Settings
from inboxd.fs.syscalls import Disk
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.sweep_locks import SweepLocks

GRACE_SECONDS = 1e-6
"""A parcel without a lease is helped at once."""

HOST = "here"


def means(disk: Disk, leases: FakeLeases, sent: Sent) -> IntakeDeps:
    """Return what an intake works with."""
    return IntakeDeps(disk, leases, sent.send, HOST, GRACE_SECONDS)


def intake(
    spool: Spool,
    leases: FakeLeases,
    sent: Sent,
    disk: Disk | None = None,
    *,
    registry: WorkerRegistry | None = None,
    **rules: object,
) -> Intake:
    """Return an inbox's way in; every file in it is complete at once."""
    known = replace(means(disk or Disk(), leases, sent), registry=registry)
    return Intake(known, spool.inbox(**rules), AT_ONCE, network=False)


def take_all(way_in: Intake) -> int:
    """Take turns until the scan is at its end; returns how many files were claimed."""
    claimed = 0
    while True:
        taken = way_in.run_turn("scan")
        claimed += taken.claimed
        if not taken.has_more:
            return claimed


def settings(inbox: Inbox) -> Settings:
    """Return settings with this one inbox."""
    table = {**inbox.model_dump(exclude={"name"}), "root": PurePath(inbox.root)}
    return Settings(host=HOST, sweep={"grace_seconds": GRACE_SECONDS}, inbox={inbox.name: table})


def make_worker_context(inbox: Inbox, leases: FakeLeases, sent: Sent, disk: Disk | None = None) -> WorkerContext:
    """Return what tasks work with; what they send is kept in ``sent``, and results are read from there."""
    client = NoQueues()
    locks = SweepLocks(client, HOST)
    return WorkerContext(settings(inbox), sent, disk or Disk(), client, leases, FakeProgress(), FakeCounters(), locks)
