"""Builds intakes and worker contexts from real and fake parts."""

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
"""Grace period of a parcel without a lease: the sweep recovers such a parcel at once."""

HOST = "here"


def means(disk: Disk, leases: FakeLeases, sent: Sent) -> IntakeDeps:
    """Return an intake's dependencies."""
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
    """Return an inbox's intake, for which every file is complete at once; ``rules`` are inbox settings."""
    deps = replace(means(disk or Disk(), leases, sent), registry=registry)
    return Intake(deps, spool.inbox(**rules), AT_ONCE, network=False)


def take_all(intake: Intake) -> int:
    """Run turns until the scan is complete; return the number of claimed files."""
    claimed = 0
    while True:
        result = intake.run_turn("scan")
        claimed += result.claimed
        if not result.has_more:
            return claimed


def settings(inbox: Inbox) -> Settings:
    """Return settings with one inbox."""
    table = {**inbox.model_dump(exclude={"name"}), "root": PurePath(inbox.root)}
    return Settings(host=HOST, sweep={"grace_seconds": GRACE_SECONDS}, inbox={inbox.name: table})


def make_worker_context(inbox: Inbox, leases: FakeLeases, sent: Sent, disk: Disk | None = None) -> WorkerContext:
    """Return a worker context; ``sent`` keeps the messages that tasks send, and provides the stored results."""
    client = NoQueues()
    locks = SweepLocks(client, HOST)
    return WorkerContext(settings(inbox), sent, disk or Disk(), client, leases, FakeProgress(), FakeCounters(), locks)
