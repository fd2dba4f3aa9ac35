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
from inboxd.service.reloading import Change, refuse, renew
from inboxd.service.sd_notify import Notify
from inboxd.spool.claims import list_parcels
from inboxd.spool.layout import open_folders
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.shared_settings import CurrentContext

LOOK_SECONDS = 5.0
"""How often an inbox that was removed is looked at: is anything of it left in flight?"""

_log = get_logger(__name__)

_importing = threading.RLock()
"""A child that is forked while this thread imports a handler's module would wait for that import for ever."""
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


class Reload:
    """Takes up new settings on SIGHUP, and lets go of removed inboxes once nothing of them is in flight."""

    def __init__(
        self, current: CurrentContext, notify: Notify, look_seconds: float = LOOK_SECONDS, *, folders: bool = True
    ) -> None:
        """``folders`` says whether the folders are this worker's business."""
        self._folders = folders
        self._current = current
        self._notify = notify
        self._look_seconds = look_seconds
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._idle: set[str] = set()

    def listen(self) -> None:
        """Reload on SIGHUP from now on, unless there is a terminal, which sends it when it goes. Main thread only."""
        if not sys.stdout.isatty():
            signal.signal(signal.SIGHUP, lambda *_: self._asked.put(None))
        threading.Thread(target=self._run, name="reload", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._asked.get(timeout=self._look_seconds if self._current.get().retiring else None)
            except queue.Empty:
                self.forget()
            else:
                self.reload()

    def reload(self) -> None:
        """Read the settings again, and hand them out; what can't be used changes nothing."""
        self._notify.reloading()
        workshop = self._current.get()
        importlib.invalidate_caches()  # a handler's module may be new
        with _importing:
            change = renew(workshop.settings, handlers=True, folders=self._folders, leaving=workshop.retiring)
        if change is not None:
            self._hand_out(workshop, change)
        self._notify.ready()

    def _hand_out(self, workshop: WorkerContext, change: Change) -> None:
        before = workshop.settings.inbox
        inboxes = {**change.settings.inbox, **{name: before[name] for name in change.removed}}
        try:
            self._current.update(change.settings.model_copy(update={"inbox": inboxes}), change.removed)
        except SettingsError as error:
            refuse(error)
            return
        self._idle.clear()
        for name in change.removed:
            if name not in workshop.retiring:
                hint = "what is in flight is still worked on and filed; nothing new is taken in"
                _log.info(events.INBOX_LEAVING, inbox=name, root=str(before[name].root), hint=hint)

    def forget(self) -> None:
        """Let go of each removed inbox that two looks in a row have found empty, and that no watcher watches any more."""
        workshop = self._current.get()
        inboxes = workshop.settings.inbox
        try:
            watcher = read_heartbeat(workshop.client, workshop.host)
        except BrokerUnavailable:
            return
        watched = watcher.inboxes if watcher else {}
        idle = {name for name in workshop.retiring if name not in watched and _is_idle(workshop, inboxes[name])}
        gone, self._idle = idle & self._idle, idle
        if not gone:
            return
        left = {name: inbox for name, inbox in inboxes.items() if name not in gone}
        self._current.update(workshop.settings.model_copy(update={"inbox": left}), workshop.retiring - gone)
        for name in sorted(gone):
            _log.info(events.INBOX_FORGOTTEN, inbox=name)


def _is_idle(workshop: WorkerContext, inbox: Inbox) -> bool:
    try:
        with open_folders(workshop.disk, inbox.root) as folders:
            return not list_parcels(workshop.disk, folders)
    except (TransientError, OSError):
        return False  # unknown is never empty
