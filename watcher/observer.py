"""All inboxes that are watched by events, and the one observer behind them, which can be replaced."""

import errno
import sys
from pathlib import PurePath

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import ObservedWatch

from inboxd.watcher.hints import Hint, HintQueue
from inboxd.watcher.inotify import HintEvent, HintObserver


class HintHandler(FileSystemEventHandler):
    """Passes on what watchdog dispatches; an exception here would end its thread, and put() raises none."""

    def __init__(self, hints: HintQueue, inbox: str) -> None:
        self._hints = hints
        self._inbox = inbox

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take one event from watchdog's dispatcher."""
        if isinstance(event, HintEvent):
            self._hints.put(Hint(event.kind, self._inbox))


class Observer:
    """Watches the two folders of each inbox that can bring news: inbox/ and claimed/."""

    def __init__(self, hints: HintQueue) -> None:
        self._hints = hints
        self.backend: HintObserver | None = None
        """watchdog's observer, and its threads; None until something is watched."""
        self._watches: dict[str, list[ObservedWatch]] = {}

    @property
    def healthy(self) -> bool:
        """Whether events can be expected to arrive."""
        return self.backend is None or self.backend.healthy

    def watch(self, inbox: str, root: PurePath) -> None:
        """Begin to watch an inbox, or watch it anew. Raises OSError where the system refuses."""
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "there is no inotify")
        self.unwatch(inbox)
        if self.backend is None:
            self.backend = HintObserver()
            self.backend.start()
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
        """Stop watching altogether."""
        if self.backend is not None:
            self.backend.stop()  # also what a dead dispatcher leaves behind: the reader, the emitters
            if self.backend.is_alive():
                self.backend.join()
        self.backend = None
        self._watches.clear()
