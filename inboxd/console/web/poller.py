"""Reads the state of inboxes and programs from time to time, so that a page shows it without waiting."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from inboxd.broker.connection import make_client
from inboxd.broker.counters import Counters
from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.console.status.snapshot import Status, take_snapshot
from inboxd.console.web.failed_index import FailedIndex
from inboxd.errors import InboxdError
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.monitoring.file_counts import FileCounts, count_active

INTERVAL_SECONDS, INTERVAL_FACTOR = 3.0, 20.0
"""Minimum pause between two reads, in seconds, and as a multiple of a read's own CPU time."""

_log = get_logger(__name__)

Hours = Mapping[str, Mapping[int, Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class State:
    """The state at one time; ``status`` is None before the first read. ``hours`` has outcomes by inbox and hour."""

    status: Status | None = None
    hours: Hours = field(default_factory=dict)
    version: int = 0
    error: str = ""


class Poller:
    """Keeps the latest state, read by a thread from ``start`` to ``stop``."""

    def __init__(self, settings: Settings, file: PurePath, index: FailedIndex) -> None:
        self.latest = State()
        self._settings = settings
        self._file = file
        self._index = index
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to stop. It may wait for Redis; nothing depends on its end."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = time.thread_time()
            try:
                self.read()
            except Exception as error:  # noqa: BLE001 - the page goes on, and shows the error
                self.latest = State(self.latest.status, self.latest.hours, self.latest.version + 1, str(error))
                _log.warning(events.WEB_UNAVAILABLE, error=repr(error), remedy="none needed if the next read succeeds")
            self._stopped.wait(max(INTERVAL_SECONDS, INTERVAL_FACTOR * (time.thread_time() - began)))

    def read(self) -> None:
        """Read the state once, and publish it. Raises SettingsError for an invalid redis.url."""
        status = take_snapshot(self._settings, time.time(), self._file, self._count)
        hours: Hours = {} if status.broker_error else self._read_hours()
        self.latest = State(status, hours, self.latest.version + 1)

    def _read_hours(self) -> Hours:
        try:
            with make_client(self._settings) as client:
                return Counters(client, self._settings.host).read_hours(self._settings.inbox)
        except InboxdError:
            return {}

    def _count(self, disk: Disk, inbox: Inbox) -> FileCounts:
        """Return an inbox's counts: failed files from the index; done/, which only grows, is not read at all."""
        active = count_active(disk, inbox)
        shallow = {name: getattr(active, name) for name in active.__dataclass_fields__}
        return FileCounts(done=0, failed=self._index.latest.counts.get(inbox.name, 0), **shallow)
