"""Watch what is on mounts of their own from a thread for each mount, so that one that hangs stops nothing else.

The main loop watches the inboxes whose folders are all on one local file system. Network and FUSE mounts, mounts below an
inbox/, and inboxes whose claims copy have loops of their own, since a system call there may take seconds, or never return.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Protocol

from inboxd.broker.heartbeat import InboxReport
from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import FolderUnavailable
from inboxd.fs.bounded import describe_silence, run_bounded
from inboxd.fs.mounts import Mount, covering_mount, mounts_below, parse_mount_table, read_mount_table
from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.intake.scan import ScanPart
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.spool.layout import CLAIMED, INBOX
from inboxd.watcher.hints import Hint, HintKind, HintQueue

SILENT_SECONDS = 10.0
"""Seconds after which a loop that is in one system call, or has started none, counts as hung."""

RETRY_SECONDS = (1.0, 30.0)
"""First and longest delay before a loop whose folders are missing starts again; it doubles in between."""

RESOLVE_SECONDS = 2.0
"""Maximum time to resolve the links in an inbox's root; a path that takes longer is used as it is."""

Parts = Mapping[str, ScanPart]
"""What one loop watches: for each inbox, by its name, the part that it scans."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Partition:
    """Which loop watches what: the main loop's ``own`` parts, and the parts of each mount's loop, by the mount's name."""

    own: Parts
    apart: Mapping[str, Parts]


def partition(inboxes: Iterable[Inbox], mounts: list[Mount], resolve: Callable[[PurePath], PurePath]) -> Partition:
    """Assign each inbox, and each mount below an inbox/, to a loop. ``resolve`` returns a path without links."""
    own: dict[str, ScanPart] = {}
    apart: dict[str, dict[str, ScanPart]] = {}
    for inbox in inboxes:
        root = resolve(inbox.root)
        folder = root / INBOX.decode()
        below = {bytes(path): mount for path, mount in mounts_below(mounts, folder).items()} if inbox.recursive else {}
        on_mounts = covering_mount(mounts, folder), covering_mount(mounts, root / CLAIMED.decode())
        loop = _choose_loop(inbox, *on_mounts) if mounts else ""
        (apart.setdefault(loop, {}) if loop else own)[inbox.name] = ScanPart(skipped=frozenset(below))
        for path, mount in below.items():
            nested = frozenset(other for other in below if other.startswith(path + b"/"))
            apart.setdefault(mount.name, {})[inbox.name] = ScanPart(path, nested)
    return Partition(own, apart)


def _choose_loop(inbox: Inbox, mount: Mount, claimed_mount: Mount) -> str:
    """Return the name of the loop for an inbox; "" for the main loop."""
    for foreign in (mount, claimed_mount):
        if foreign.is_network:
            return foreign.name
    copies = inbox.claim == "copy" or mount.id != claimed_mount.id
    return f"{mount.name}, copies" if copies else ""


class StampingDisk(Disk):
    """A disk that records when its mount last answered."""

    def __init__(self, stamp: Callable[[], None]) -> None:
        self._stamp = stamp

    def open_folder(self, at: Fd, name: bytes) -> Fd:
        """Open a folder, and record that; see Disk."""
        self._stamp()
        return super().open_folder(at, name)

    def stat(self, at: Fd, name: bytes) -> Stat:
        """Return an entry's metadata, and record that; see Disk."""
        self._stamp()
        return super().stat(at, name)

    def rename_over(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Rename, and record that; see Disk."""
        self._stamp()
        super().rename_over(src_at, src, dst_at, dst)

    def read(self, fd: Fd, size: int) -> bytes:
        """Read, and record that; see Disk."""
        self._stamp()
        return super().read(fd, size)


class Loop(Protocol):
    """What runs in a mount's thread: a Daemon."""

    def run(self) -> None:
        """Watch until a STOP hint. Raises OSError if a folder can't be watched."""

    def reports(self, outage: str) -> dict[str, InboxReport]:
        """Return a report for each watched inbox."""


MakeLoop = Callable[["MountWatcher"], Loop]


@dataclass(eq=False)
class MountWatcher:
    """The loop of one mount, in a thread."""

    name: str
    settings: Settings
    parts: Parts
    make_loop: MakeLoop
    hints: HintQueue = field(default_factory=HintQueue)
    loop: Loop | None = None
    outage: str = ""
    """Why the loop can't start, "" once it has."""

    def __post_init__(self) -> None:
        self._stamped_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mount {self.name}", daemon=True)

    def start(self) -> None:
        """Start the loop. Raises RuntimeError if the system refuses a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have the loop end, as soon as its mount answers; nobody waits for that."""
        self._stopped.set()
        self.hints.put(Hint(HintKind.STOP))

    def stamp(self) -> None:
        """Record that the mount answers."""
        self._stamped_at = time.monotonic()

    def stamp_loop(self) -> None:
        """Record that the loop runs, and the mount answers."""
        self.stamp()
        self.outage = ""

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def silence(self) -> str:
        """Why the mount counts as hung; "" while it answers."""
        seconds = time.monotonic() - self._stamped_at
        return f"{describe_silence(self.name)}; for {seconds:.0f} s" if seconds > SILENT_SECONDS else ""

    def reports(self) -> dict[str, InboxReport]:
        """Return a report for each inbox that this loop watches."""
        outage = self.silence or self.outage
        watched = self.loop.reports(outage) if self.loop else {}
        unwatched = InboxReport("polling", f"on {self.name}", is_busy=False, outage=outage or None)
        return {name: watched.get(name, unwatched) for name in self.parts}

    def _run(self) -> None:
        wait = RETRY_SECONDS[0]
        while not self._stopped.is_set():
            self._stamped_at = time.monotonic()
            self.loop = self.make_loop(self)
            try:
                self.loop.run()
            except (OSError, FolderUnavailable) as error:
                if str(error) != self.outage:
                    remedy = "correct the cause; the watcher retries by itself"
                    for name in self.parts:
                        _log.warning(events.FOLDER_UNAVAILABLE, inbox=name, error=str(error), remedy=remedy)
                self.outage = str(error)
                until = time.monotonic() + wait
                while not self._stopped.is_set() and (left := until - time.monotonic()) > 0:
                    self._stamped_at = time.monotonic()
                    self.hints.wait(min(left, SILENT_SECONDS / 4))
                wait = min(2 * wait, RETRY_SECONDS[1])


class MountWatchers:
    """The loops of all mounts that have one."""

    def __init__(self, disk: Disk, make_loop: MakeLoop) -> None:
        self._disk = disk
        self._make_loop = make_loop
        self._watchers: dict[str, MountWatcher] = {}
        self._ending: dict[str, MountWatcher] = {}
        self._wanted: dict[str, tuple[Settings, Parts]] = {}
        self._resolved: dict[PurePath, PurePath] = {}
        self._table: str | None = None

    def partition(self, settings: Settings) -> Partition:
        """Return which loop watches what, by the mount table as it is now."""
        try:
            self._table = read_mount_table(self._disk)
        except OSError:
            self._table = ""
        return partition(settings.inbox.values(), list(parse_mount_table(self._table)), self._resolve)

    def has_new_mounts(self) -> bool:
        """Return whether the mount table has changed since the last partition."""
        try:
            return read_mount_table(self._disk) != self._table
        except OSError:
            return False

    def _resolve(self, root: PurePath) -> PurePath:
        if root not in self._resolved:
            try:
                place = Mount(0, "unknown", str(root))
                self._resolved[root] = run_bounded(self._disk, place, lambda: self._disk.real_path(root), RESOLVE_SECONDS)
            except (OSError, FolderUnavailable):
                return root
        return self._resolved[root]

    def apply(self, settings: Settings, new: Partition) -> None:
        """Have these loops run, with these settings; those that are unchanged go on."""
        self._wanted = {
            name: (settings.model_copy(update={"inbox": {inbox: settings.inbox[inbox] for inbox in parts}}), parts)
            for name, parts in new.apart.items()
        }
        for name, watcher in list(self._watchers.items()):
            if self._wanted.get(name) != (watcher.settings, watcher.parts):
                watcher.stop()
                self._ending[name] = self._watchers.pop(name)
        self.keep_running()

    def keep_running(self) -> None:
        """Start the loops that don't run, unless their mount still holds up an earlier one."""
        self._ending = {name: watcher for name, watcher in self._ending.items() if watcher.is_alive}
        for name, (settings, parts) in self._wanted.items():
            if name in self._ending or (name in self._watchers and self._watchers[name].is_alive):
                continue
            watcher = MountWatcher(name, settings, parts, self._make_loop)
            try:
                watcher.start()
            except RuntimeError as error:
                _log.warning(events.FOLDER_UNAVAILABLE, error=f"{name}: {error}", remedy="raise TasksMax of the service")
                continue
            self._watchers[name] = watcher

    def reports(self) -> tuple[dict[str, InboxReport], dict[str, list[InboxReport]]]:
        """Return the reports of whole inboxes, and for each other inbox those of the mounts below it."""
        whole: dict[str, InboxReport] = {}
        below: dict[str, list[InboxReport]] = {}
        for name, (_, parts) in self._wanted.items():
            watcher = self._watchers.get(name) or self._ending.get(name)
            reports = watcher.reports() if watcher else {}
            for inbox, part in parts.items():
                not_started = InboxReport("polling", f"on {name}", is_busy=False, outage=describe_silence(name))
                report = reports.get(inbox, not_started)
                if part.below:
                    below.setdefault(inbox, []).append(report)
                else:
                    whole[inbox] = report
        return whole, below

    def stop(self) -> None:
        """Have all loops end; nobody waits for a hung one."""
        for watcher in self._watchers.values():
            watcher.stop()
        deadline = time.monotonic() + RESOLVE_SECONDS
        while (
            any(watcher.is_alive and not watcher.silence for watcher in self._watchers.values()) and time.monotonic() < deadline
        ):
            time.sleep(0.01)
