"""The worker context, on which every task depends: settings, disk, Redis, and the app that sends messages."""

import contextlib
from dataclasses import dataclass

import redis
from celery import Celery

from inboxd.broker.changes import Changes
from inboxd.broker.connection import make_client
from inboxd.broker.counters import Counters
from inboxd.broker.inbox_outages import is_inbox_wide, record_inbox_outage
from inboxd.broker.leases import Leases
from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.bounded import foreign_mount
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.stage.store import Store
from inboxd.tasks.process_state.child_guard import ChildGuard
from inboxd.tasks.process_state.progress import FOLDER, Progress
from inboxd.tasks.process_state.sweep_locks import SweepLocks

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The dependencies of all tasks in a process; connects to Redis at the first use."""

    settings: Settings
    app: Celery
    disk: Disk
    client: redis.Redis
    leases: Leases
    changes: Changes
    progress: Progress
    counters: Counters
    sweep_locks: SweepLocks
    guard: ChildGuard
    store: Store | None = None
    retiring: frozenset[str] = frozenset()
    """Inboxes that were removed from the settings: files in flight are finished, and no more files are claimed."""

    @property
    def host(self) -> str:
        """This host's name, as in the names of queues."""
        return self.settings.host

    def foreign_mount(self, inbox: Inbox) -> Mount | None:
        """Return a network or FUSE mount on which an inbox's folders are, or that of its outputs; None if there is none."""
        mount, outputs = foreign_mount(self.disk, inbox.root), self.settings.output_folder(inbox)
        return mount or (foreign_mount(self.disk, outputs) if outputs else None)

    def record_if_outage(self, inbox: Inbox, error: Exception, sweep: str) -> bool:
        """Return whether an error affects the whole inbox. If so, record an outage in Redis, and log it if it is new.

        ``sweep`` is the sweep that clears the outage once missing folders are available again.
        """
        if not is_inbox_wide(self.disk, inbox.root, error):
            return False
        is_missing = isinstance(error, FolderUnavailable)
        where = inbox.root / str(getattr(error, "filename", None) or "")
        why = str(error) if is_missing else f"{where}: {getattr(error, 'strerror', None) or error}"
        with contextlib.suppress(BrokerUnavailable):
            if record_inbox_outage(self.client, self.host, inbox.name, why, sweep=sweep if is_missing else ""):
                remedy = "correct the cause; until then no more files are claimed, and finished files stay in claimed/"
                _log.warning(events.FOLDER_UNAVAILABLE, inbox=inbox.name, error=why, remedy=remedy)
        return True


def make_context(settings: Settings, app: Celery) -> WorkerContext:
    """Return a new context. Lease records are kept for twice the visibility timeout: longer than any copy of a message."""
    client = make_client(settings)
    keep_seconds = 2 * settings.redis.visibility_timeout_seconds
    disk = Disk()
    return WorkerContext(
        settings,
        app,
        disk,
        client,
        Leases(client, keep_seconds),
        Changes(client),
        Progress(client, keep_seconds, disk, settings.state_dir / FOLDER),
        Counters(client, settings.host),
        SweepLocks(client, settings.host),
        ChildGuard(settings.work.child_files_max),
        Store(settings.stage, settings.redis.namespace) if settings.stage.url else None,
    )
