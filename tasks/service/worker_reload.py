"""Reloads a worker's settings: the main process validates them in a thread, and each child adopts them at its next task."""

import importlib
import os
import queue
import signal
import sys
import threading

from inboxd.broker.heartbeat import read_heartbeat
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, SettingsError, TransientError
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.service.reloading import SettingsChange, log_refusal, reload_settings
from inboxd.service.sd_notify import ServiceNotifier
from inboxd.spool.claims import list_parcels
from inboxd.spool.layout import open_folders
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.shared_settings import CurrentContext

RETIRED_CHECK_SECONDS = 5.0
"""Interval at which a removed inbox is checked for parcels in flight."""

_log = get_logger(__name__)

_import_lock = threading.RLock()
"""Held during imports and forks: a child forked while this thread imports a module would wait for that import for ever."""
os.register_at_fork(before=_import_lock.acquire, after_in_parent=_import_lock.release, after_in_child=_import_lock.release)


class Reloader:
    """Reloads the settings on SIGHUP, and drops each removed inbox once none of its parcels is in flight."""

    def __init__(
        self,
        current: CurrentContext,
        service_manager: ServiceNotifier,
        check_seconds: float = RETIRED_CHECK_SECONDS,
        *,
        has_folders: bool = True,
    ) -> None:
        """``has_folders``: whether this worker uses the inboxes' folders."""
        self._has_folders = has_folders
        self._current = current
        self._service_manager = service_manager
        self._check_seconds = check_seconds
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._empty: set[str] = set()

    def start(self) -> None:
        """Reload on SIGHUP from now on, except on a terminal, which sends SIGHUP when it closes. Main thread only."""
        if not sys.stdout.isatty():
            signal.signal(signal.SIGHUP, lambda *_: self._requests.put(None))
        threading.Thread(target=self._run, name="reload", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._requests.get(timeout=self._check_seconds if self._current.get().retiring else None)
            except queue.Empty:
                self.drop_retired()
            else:
                self.reload()

    def reload(self) -> None:
        """Read the settings again and apply them; invalid settings change nothing."""
        self._service_manager.notify_reloading()
        context = self._current.get()
        importlib.invalidate_caches()  # a handler's module may be new
        with _import_lock:
            change = reload_settings(context.settings, handlers=True, folders=self._has_folders, retiring=context.retiring)
        if change is not None:
            self._apply(context, change)
        self._service_manager.notify_ready()

    def _apply(self, context: WorkerContext, change: SettingsChange) -> None:
        before = context.settings.inbox
        inboxes = {**change.settings.inbox, **{name: before[name] for name in change.removed}}
        try:
            self._current.update(change.settings.model_copy(update={"inbox": inboxes}), change.removed)
        except SettingsError as error:
            log_refusal(error)
            return
        self._empty.clear()
        for name in change.removed:
            if name not in context.retiring:
                hint = "files in flight are still processed and filed; no more files are claimed"
                _log.info(events.INBOX_RETIRING, inbox=name, root=str(before[name].root), hint=hint)

    def drop_retired(self) -> None:
        """Drop each removed inbox that two checks in a row have found empty, and that no watcher watches any more."""
        context = self._current.get()
        inboxes = context.settings.inbox
        try:
            watcher = read_heartbeat(context.client, context.host)
        except BrokerUnavailable:
            return
        watched = watcher.inboxes if watcher else {}
        empty = {name for name in context.retiring if name not in watched and _is_empty(context, inboxes[name])}
        dropped, self._empty = empty & self._empty, empty
        if not dropped:
            return
        kept = {name: inbox for name, inbox in inboxes.items() if name not in dropped}
        self._current.update(context.settings.model_copy(update={"inbox": kept}), context.retiring - dropped)
        for name in sorted(dropped):
            _log.info(events.INBOX_RETIRED, inbox=name)


def _is_empty(context: WorkerContext, inbox: Inbox) -> bool:
    try:
        with open_folders(context.disk, inbox.root) as folders:
            return not list_parcels(context.disk, folders)
    except (TransientError, OSError):
        return False  # unreadable does not mean empty
