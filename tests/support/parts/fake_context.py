"""Builds intakes and worker contexts from real and fake parts."""

from dataclasses import replace
from pathlib import PurePath

from support.disk.spools import NO_WAITS, Spool
from support.parts.fakes import FakeChanges, FakeCounters, FakeLeases, FakeProgress, FakePublisher, FakeRedis

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.tasks.process_state.child_guard import ChildGuard
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.sweep_locks import SweepLocks

GRACE_SECONDS = 1e-6
"""Grace period of a parcel without a lease: the sweep recovers such a parcel at once."""

HOST = "here"


def make_intake_deps(disk: Disk, leases: FakeLeases, sent: FakePublisher) -> IntakeDeps:
    """Return an intake's dependencies."""
    return IntakeDeps(disk, leases, sent.send, HOST, GRACE_SECONDS)


def intake(
    spool: Spool,
    leases: FakeLeases,
    sent: FakePublisher,
    disk: Disk | None = None,
    *,
    registry: WorkerRegistry | None = None,
    **rules: object,
) -> Intake:
    """Return an inbox's intake, for which every file is complete at once; ``rules`` are inbox settings."""
    deps = replace(make_intake_deps(disk or Disk(), leases, sent), registry=registry)
    return Intake(deps, spool.inbox(**rules), NO_WAITS, network=False)


def run_all_turns(intake: Intake) -> int:
    """Run turns until the scan is complete; return the number of claimed files.

    As in the watcher, a turn whose time was up is continued without another scan, which would find denied files again.
    """
    claimed, scan = 0, True
    while True:
        result = intake.run_turn("scan", scan=scan)
        claimed += result.claimed
        scan = not result.is_interrupted
        if not result.has_more:
            return claimed


def settings(inbox: Inbox) -> Settings:
    """Return settings with one inbox."""
    table = {**inbox.model_dump(exclude={"name"}), "root": PurePath(inbox.root)}
    return Settings(
        host=HOST, state_dir=inbox.root.parent / "state", sweep={"grace_seconds": GRACE_SECONDS}, inbox={inbox.name: table}
    )


def make_worker_context(
    inbox: Inbox, leases: FakeLeases, sent: FakePublisher, disk: Disk | None = None, *, changes: FakeChanges | None = None
) -> WorkerContext:
    """Return a worker context; ``sent`` keeps the messages that tasks send, and provides the stored results."""
    client = FakeRedis()
    locks = SweepLocks(client, HOST)
    return WorkerContext(
        settings(inbox),
        sent,
        disk or Disk(),
        client,
        leases,
        changes or FakeChanges(),
        FakeProgress(),
        FakeCounters(),
        locks,
        ChildGuard(256),
    )
