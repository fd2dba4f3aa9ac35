"""A watchdog observer for drop folders: hints without delay, and every loss of events is reported.

Watchdog's own emitter pairs moves, so that each claim by rename would delay all later events by half a second; its recursive
mode fails silently on deep or busy trees, and it hides overflows. This emitter therefore implements watchdog's callback
protocol itself, for single folders; sub-folders are left to the scan. It uses EventEmitter, BaseObserver and InotifyFD: a
contract test checks their signatures.
"""

import errno
import os
import time
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from watchdog.events import FileSystemEvent
from watchdog.observers.api import BaseObserver, EventEmitter, EventQueue, ObservedWatch
from watchdog.observers.inotify_c import CallbackId, InotifyEvent, InotifyFD, Mask, WatchDescriptor
from watchdog.observers.inotify_c import InotifyConstants as Bits

from inboxd.watcher.hints import HintKind

_FOLDER_LOST = Bits.IN_DELETE_SELF | Bits.IN_MOVE_SELF
_UNMOUNT = 0x00002000
_WATCH_FLAGS = Bits.IN_ONLYDIR | Bits.IN_DONT_FOLLOW | Bits.IN_EXCL_UNLINK
INBOX_MASK = Mask(Bits.IN_CLOSE_WRITE | Bits.IN_MOVED_TO | Bits.IN_CREATE | _FOLDER_LOST | _WATCH_FLAGS)
"""Events that may complete a file, or create an entry that is never closed: a link, a folder, a device."""
CLAIMED_MASK = Mask(Bits.IN_DELETE | _WATCH_FLAGS)
"""A parcel's folder is removed once its files are filed."""

UNTHROTTLED_READS, IMMEDIATE_SECONDS, THROTTLE_SECONDS = 4, 0.001, 0.005
"""After 4 reads in a row that took under 1 ms each, pause 5 ms before the next: one file causes fewer."""
BUFFER_BYTES = 256 * 1024
"""Size of the read buffer: more than arrives in one pause. The kernel's queue holds 16,384 events of 16 bytes and a name."""


@dataclass(unsafe_hash=True)
class HintEvent(FileSystemEvent):
    """A hint in watchdog's queue, which drops an event that equals the last unread one."""

    kind: HintKind = HintKind.ARRIVED


class HintEmitter(EventEmitter):
    """Converts the kernel's events of one folder to hints, in the reader's thread; it starts no thread of its own."""

    def __init__(self, event_queue: EventQueue, watch: ObservedWatch, *, reader: InotifyFD, **kwargs: Any) -> None:  # noqa: ANN401 - watchdog's signature
        super().__init__(event_queue, watch, **kwargs)
        self._reader = reader
        self._id = CallbackId(id(self))
        self._watches_claimed = PurePath(watch.path).name == "claimed"
        self._descriptor: WatchDescriptor | None = None

    def start(self) -> None:
        """Add the inotify watch. Raises OSError if the kernel refuses, or no watches are left."""
        mask = CLAIMED_MASK if self._watches_claimed else INBOX_MASK
        descriptor = self._reader.add_callback(os.fsencode(self.watch.path), mask, self, self._id)
        if descriptor < 0:
            raise PermissionError(errno.EACCES, "the folder can't be watched", self.watch.path)
        self._descriptor = descriptor

    def on_thread_stop(self) -> None:
        """Remove the inotify watch, if it still exists."""
        if self._descriptor is not None:
            self._reader.remove_callbacks([(self._descriptor, self._id)])
            self._descriptor = None

    def on_event(self, event: InotifyEvent) -> None:
        """Queue the hint for one event."""
        if event.mask & (_FOLDER_LOST | _UNMOUNT):
            self._hint(HintKind.ROOT_LOST)
        else:
            self._hint(HintKind.PARCEL_REMOVED if self._watches_claimed else HintKind.ARRIVED)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Queue a hint that the kernel removed the watch."""
        del wd
        self._descriptor = None
        self._hint(HintKind.ROOT_LOST)

    def on_queue_overflow(self) -> None:
        """Queue a hint that the kernel dropped events."""
        self._hint(HintKind.OVERFLOWED)

    def _hint(self, kind: HintKind) -> None:
        self.queue_event(HintEvent(self.watch.path, kind=kind))


class ThrottledReader(InotifyFD):
    """An inotify reader that pauses between reads during a burst of files, so that one hint covers many events.

    Without the pause the interpreter would switch between the reader, the dispatcher and the loop for each file.
    """

    def __init__(self) -> None:
        self._immediate_reads = 0
        super().__init__()

    def read_events(self, *, event_buffer_size: int = BUFFER_BYTES) -> list[InotifyEvent]:
        """Wait for events; return one of each kind per folder: the scan finds the names."""
        if self._immediate_reads >= UNTHROTTLED_READS:
            self.stopped_event.wait(THROTTLE_SECONDS)
        started = time.monotonic()
        events = super().read_events(event_buffer_size=event_buffer_size)
        self._immediate_reads = self._immediate_reads + 1 if time.monotonic() - started < IMMEDIATE_SECONDS else 0
        return list({(event.wd, event.mask): event for event in events}.values())


class HintObserver(BaseObserver):
    """Observes folders through one inotify instance for all of them."""

    def __init__(self) -> None:
        self.reader = ThrottledReader()
        self.reader.start()
        super().__init__(HintEmitter, reader=self.reader)

    def on_thread_stop(self) -> None:
        """Stop the emitters and the reader."""
        super().on_thread_stop()
        self.reader.stop()
        self.reader.join()

    @property
    def is_healthy(self) -> bool:
        """Whether both threads are alive; is_alive() checks the dispatcher only."""
        return self.is_alive() and self.reader.is_alive()
