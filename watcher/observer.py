"""Watch inboxes through one watchdog observer, which can be replaced."""

import errno
import sys
from pathlib import PurePath

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import ObservedWatch

from inboxd.watcher.hints import Hint, HintQueue
from inboxd.watcher.inotify import HintEvent, HintObserver


class HintHandler(FileSystemEventHandler):
    """Puts dispatched events into the hint queue; must not raise, because that would end watchdog's thread."""

    def __init__(self, hints: HintQueue, inbox: str) -> None:
        self._hints = hints
        self._inbox = inbox

    def dispatch(self, event: FileSystemEvent) -> None:
        """Queue the hint for one event."""
        if isinstance(event, HintEvent):
            self._hints.put(Hint(event.kind, self._inbox))


class Observer:
    """Watches inbox/, where files arrive, and claimed/, which parcels leave, of each inbox."""

    def __init__(self, hints: HintQueue) -> None:
        self._hints = hints
        self.backend: HintObserver | None = None
        """watchdog's observer and its threads; None until an inbox is watched."""
        self._watches: dict[str, list[ObservedWatch]] = {}

    @property
    def is_healthy(self) -> bool:
        """Whether all threads that deliver events are alive, or none is needed."""
        return self.backend is None or self.backend.is_healthy

    def watch(self, inbox: str, root: PurePath) -> None:
        """Watch an inbox; if it is watched already, replace its watches.

        Raises OSError if the kernel refuses a watch, or a thread (EAGAIN).
        """
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "inotify is available on Linux only")
        self.unwatch(inbox)
        if self.backend is None:
            self.backend = _start_backend()
        handler = HintHandler(self._hints, inbox)
        watches = self._watches.setdefault(inbox, [])
        for folder in ("inbox", "claimed"):
            watches.append(self.backend.schedule(handler, str(root / folder)))

    def unwatch(self, inbox: str) -> None:
        """Stop watching an inbox."""
        for watch in self._watches.pop(inbox, []):
            if self.backend is not None:
                self.backend.unschedule(watch)

    def stop(self) -> None:
        """Stop watching all inboxes, and end the threads."""
        if self.backend is not None:
            self.backend.stop()  # needed even if the dispatcher is dead: stops the reader and the emitters
            if self.backend.is_alive():
                self.backend.join()
        self.backend = None
        self._watches.clear()


def _start_backend() -> HintObserver:
    try:
        backend = HintObserver()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    try:
        backend.start()
    except RuntimeError as error:
        backend.on_thread_stop()
        raise OSError(errno.EAGAIN, str(error)) from error
    return backend
