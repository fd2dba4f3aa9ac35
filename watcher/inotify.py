"""Watchdog on Linux, as drop folders need it: hints without delay, and no loss in silence.

Watchdog's own emitter pairs moves: each claim by rename would hold back all events behind it for half a second. Its recursive
mode dies in silence on deep or busy trees, and it hides overflows. So this emitter implements watchdog's callback protocol
itself, for one folder at a time, and leaves sub-folders to the scan. It uses EventEmitter, BaseObserver and InotifyFD; a
contract test guards them.
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
"""What may complete a file, or brings one that is never closed: a link, a folder, a device."""
CLAIMED_MASK = Mask(Bits.IN_DELETE | _WATCH_FLAGS)
"""A parcel's folder is removed when its files are filed."""


THROTTLE_SECONDS = 0.005
IMMEDIATE_SECONDS = 0.001
UNTHROTTLED_READS = 4
"""A file is opened, written and closed, a parcel returns: only more events than these, so close together, are many files."""
BUFFER_BYTES = 256 * 1024
"""More than the kernel's queue grows by in a rest; it holds 16,384 events, of 16 bytes and a name each."""


@dataclass(unsafe_hash=True)
class HintEvent(FileSystemEvent):
    """A hint on its way through watchdog's queue, which drops a repetition that nobody has read yet."""

    kind: HintKind = HintKind.ARRIVED


class HintEmitter(EventEmitter):
    """Turns the kernel's events about one folder into hints, on the reader's thread."""

    def __init__(self, event_queue: EventQueue, watch: ObservedWatch, *, reader: InotifyFD, **kwargs: Any) -> None:  # noqa: ANN401 - watchdog's own
        super().__init__(event_queue, watch, **kwargs)
        self._reader = reader
        self._id = CallbackId(id(self))
        self._watches_claimed = PurePath(watch.path).name == "claimed"
        self._descriptor: WatchDescriptor | None = None

    def on_thread_start(self) -> None:
        """Add the kernel's watch. Raises OSError where that is refused or no watches are left."""
        mask = CLAIMED_MASK if self._watches_claimed else INBOX_MASK
        descriptor = self._reader.add_callback(os.fsencode(self.watch.path), mask, self, self._id)
        if descriptor < 0:
            raise PermissionError(errno.EACCES, "can't be watched", self.watch.path)
        self._descriptor = descriptor

    def on_thread_stop(self) -> None:
        """Remove the kernel's watch, if it is still there."""
        if self._descriptor is not None:
            self._reader.remove_callbacks([(self._descriptor, self._id)])
            self._descriptor = None

    def queue_events(self, timeout: float) -> None:
        """Sleep: the reader's thread does the work."""
        del timeout
        self.stopped_event.wait()

    def on_event(self, event: InotifyEvent) -> None:
        """Take one event from the reader."""
        if event.mask & (_FOLDER_LOST | _UNMOUNT):
            self._hint(HintKind.ROOT_LOST)
        else:
            self._hint(HintKind.PARCEL_RETURNED if self._watches_claimed else HintKind.ARRIVED)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Learn that the kernel has dropped the watch."""
        del wd
        self._descriptor = None
        self._hint(HintKind.ROOT_LOST)

    def on_queue_overflow(self) -> None:
        """Learn that the kernel has dropped events."""
        self._hint(HintKind.OVERFLOWED)

    def _hint(self, kind: HintKind) -> None:
        self.queue_event(HintEvent(self.watch.path, kind=kind))


class ThrottledReader(InotifyFD):
    """Reads each event at once, but rests between while files pour in: then one word for all of them is enough.

    Else this thread, the dispatcher's and the loop's would pass the interpreter to and fro for each file.
    """

    def __init__(self) -> None:
        self._immediate_reads = 0
        super().__init__()

    def read_events(self, *, event_buffer_size: int = BUFFER_BYTES) -> list[InotifyEvent]:
        """Wait for events, and return one of each kind from each folder: their names are the scan's business."""
        if self._immediate_reads >= UNTHROTTLED_READS:
            self.stopped_event.wait(THROTTLE_SECONDS)
        begun = time.monotonic()
        events = super().read_events(event_buffer_size=event_buffer_size)
        self._immediate_reads = self._immediate_reads + 1 if time.monotonic() - begun < IMMEDIATE_SECONDS else 0
        return list({(event.wd, event.mask): event for event in events}.values())


class HintObserver(BaseObserver):
    """An observer of folders, one kernel queue for all of them."""

    def __init__(self) -> None:
        self.reader = ThrottledReader()
        self.reader.start()
        super().__init__(HintEmitter, reader=self.reader)

    def on_thread_stop(self) -> None:
        """Stop the reader too."""
        super().on_thread_stop()
        self.reader.stop()
        self.reader.join()

    @property
    def healthy(self) -> bool:
        """Whether every thread lives: is_alive() alone knows only of one."""
        return self.is_alive() and self.reader.is_alive() and all(emitter.is_alive() for emitter in self.emitters)
