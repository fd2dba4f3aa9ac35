"""New settings for a worker at work: its main process checks them in a thread, its children take them at their next task."""

import importlib
import os
import queue
import signal
import sys
import threading

from inboxd.broker.heartbeat import read_heartbeat
from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, SettingsError, TransientError
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.service.reloading import SettingsChange, log_refusal, reload_settings
from inboxd.service.sd_notify import ServiceManager
from inboxd.spool.claims import list_parcels
from inboxd.spool.layout import open_folders
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.shared_settings import CurrentContext

RETIRED_CHECK_SECONDS = 5.0
"""How often an inbox that was removed is looked at: is anything of it left in flight?"""

_log = get_logger(__name__)

_import_lock = threading.RLock()
"""A child that is forked while this thread imports a handler's module would wait for that import for ever."""
os.register_at_fork(before=_import_lock.acquire, after_in_parent=_import_lock.release, after_in_child=_import_lock.release)


class Reloader:
    """Takes up new settings on SIGHUP, and lets go of removed inboxes once nothing of them is in flight."""

    def __init__(
        self,
        current: CurrentContext,
        notify: ServiceManager,
        look_seconds: float = RETIRED_CHECK_SECONDS,
        *,
        folders: bool = True,
    ) -> None:
        """``folders`` says whether the folders are this worker's business."""
        self._owns_folders = folders
        self._current = current
        self._service_manager = notify
        self._check_seconds = look_seconds
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._empty: set[str] = set()

    def start(self) -> None:
        """Reload on SIGHUP from now on, unless there is a terminal, which sends it when it goes. Main thread only."""
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
        """Read the settings again, and hand them out; what can't be used changes nothing."""
        self._service_manager.notify_reloading()
        context = self._current.get()
        importlib.invalidate_caches()  # a handler's module may be new
        with _import_lock:
            change = reload_settings(context.settings, handlers=True, folders=self._owns_folders, retiring=context.retiring)
        if change is not None:
            self._hand_out(context, change)
        self._service_manager.notify_ready()

    def _hand_out(self, context: WorkerContext, change: SettingsChange) -> None:
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
                hint = "what is in flight is still worked on and filed; nothing new is taken in"
                _log.info(events.INBOX_RETIRING, inbox=name, root=str(before[name].root), hint=hint)

    def drop_retired(self) -> None:
        """Let go of each removed inbox that two looks in a row have found empty, and that no watcher watches any more."""
        context = self._current.get()
        inboxes = context.settings.inbox
        try:
            watcher = read_heartbeat(context.client, context.host)
        except BrokerUnavailable:
            return
        watched = watcher.inboxes if watcher else {}
        idle = {name for name in context.retiring if name not in watched and _is_empty(context, inboxes[name])}
        gone, self._empty = idle & self._empty, idle
        if not gone:
            return
        left = {name: inbox for name, inbox in inboxes.items() if name not in gone}
        self._current.update(context.settings.model_copy(update={"inbox": left}), context.retiring - gone)
        for name in sorted(gone):
            _log.info(events.INBOX_RETIRED, inbox=name)


def _is_empty(context: WorkerContext, inbox: Inbox) -> bool:
    try:
        with open_folders(context.disk, inbox.root) as folders:
            return not list_parcels(context.disk, folders)
    except (TransientError, OSError):
        return False  # unknown is never empty
