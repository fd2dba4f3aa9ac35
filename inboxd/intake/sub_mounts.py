"""The mounts below an inbox/: on each, its own file system and clock decide when a file is complete."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from inboxd.config.rules import Rules
from inboxd.fs.mounts import Mount, find_mount
from inboxd.fs.syscalls import Disk, Fd
from inboxd.intake.folder_clock import time_of_new_file
from inboxd.intake.readiness import WaitTimes
from inboxd.intake.watch_mode import wait_times

CLOCK_SECONDS = 30.0
"""Seconds until a file server's clock is read again: it may be set meanwhile."""


@dataclass(frozen=True, slots=True)
class FolderTiming:
    """How long the files of a folder must be unchanged, and the clock of their times (unix seconds)."""

    waits: WaitTimes
    clock: Callable[[], float]
    is_network: bool = False


@dataclass(frozen=True, slots=True)
class _ServerClock:
    """A file server's time at a moment of the monotonic clock."""

    time: float
    read_at: float

    def now(self) -> float:
        return self.time + time.monotonic() - self.read_at


class SubMounts:
    """The mounts that the last scan has met below inbox/, by the paths of the folders that they are mounted on."""

    def __init__(self, disk: Disk, rules: Rules, *, later_by: float = 0.0, reads_only: bool = False) -> None:
        """``later_by``: seconds that are added to the wait times. With ``reads_only`` the local clock is used everywhere."""
        self._disk = disk
        self._rules = rules
        self._later_by = later_by
        self._reads_only = reads_only
        self._clocks: dict[Mount, _ServerClock] = {}
        self._timings: dict[int, FolderTiming] = {}
        self.mounts: dict[bytes, Mount] = {}

    def start_scan(self) -> None:
        """Forget the mounts: they may have been replaced since the last scan."""
        self._timings.clear()
        self.mounts.clear()

    def timing(self, folder: Fd, path: bytes, device: int) -> FolderTiming:
        """Return the timing of an open folder on another mount than inbox/. Raises OSError."""
        if (known := self._timings.get(device)) is not None:
            return known
        mount = find_mount(self._disk, folder)
        self.mounts[path] = mount
        waits = wait_times(self._rules, mount).plus(self._later_by)
        clock = self._clock(mount, folder).now if mount.is_network and not self._reads_only else time.time
        timing = self._timings[device] = FolderTiming(waits, clock, mount.is_network)
        return timing

    def _clock(self, mount: Mount, folder: Fd) -> _ServerClock:
        known = self._clocks.get(mount)
        if known is None or time.monotonic() - known.read_at > CLOCK_SECONDS:
            self._clocks = {other: clock for other, clock in self._clocks.items() if other in self.mounts.values()}
            known = self._clocks[mount] = _ServerClock(time_of_new_file(self._disk, folder), time.monotonic())
        return known
