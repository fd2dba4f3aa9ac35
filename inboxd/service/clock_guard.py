"""Detects that the system's clock was set to a very different time: for a day, ages in days then count for nothing.

A record in state_dir compares the clock with the kernel's time since boot, which nobody sets.
"""

import contextlib
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import PurePath

from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, closing

RECORD = b"clock.json"
JUMP_SECONDS = 3600.0
"""Difference between the clock and the time since boot from which the clock has jumped: clocks are adjusted by less."""
OFF_SECONDS_MAX = 86_400.0
"""How long a machine may have been off without its clock counting as wrong at the next boot."""
STARTING_SECONDS = 3600.0
"""How long after a boot a network may set the clock of a machine whose clock has no battery."""
PAUSE_SECONDS = 86_400.0
"""How long ages count for nothing after a jump: time for a person to notice a wrong clock."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The boot's id, the seconds since it, and the clock's time in unix seconds."""

    boot: str
    uptime: float
    time: float


@dataclass(frozen=True, slots=True)
class ClockRecord:
    """The last reading, the seconds that are left of a pause, and the seconds by which the clock jumped before it."""

    reading: ClockReading
    pause_seconds: float = 0.0
    jump_seconds: float = 0.0


def read_clock(disk: Disk) -> ClockReading:
    """Read the clocks. Raises OSError."""
    if sys.platform != "linux":
        return ClockReading("", time.monotonic(), time.time())
    boot = disk.read_text(PurePath("/proc/sys/kernel/random/boot_id")).strip()
    return ClockReading(boot, float(disk.read_text(PurePath("/proc/uptime")).split()[0]), time.time())


def next_record(previous: ClockRecord | None, now: ClockReading) -> ClockRecord:
    """Return the record after a further reading; a jump starts a new pause."""
    if previous is None:
        return ClockRecord(now)
    last = previous.reading
    is_same_boot = last.boot == now.boot and now.uptime >= last.uptime
    elapsed = now.uptime - last.uptime if is_same_boot else now.uptime
    jump = now.time - last.time - elapsed
    is_starting = not is_same_boot or last.uptime < STARTING_SECONDS
    if is_starting and 0 < jump <= OFF_SECONDS_MAX:  # the machine was off
        jump = 0.0
    if abs(jump) > JUMP_SECONDS:
        return ClockRecord(now, PAUSE_SECONDS, jump)
    pause = max(previous.pause_seconds - elapsed, 0.0)
    return ClockRecord(now, pause, previous.jump_seconds if pause else 0.0)


def update_record(disk: Disk, state_dir: PurePath) -> ClockRecord:
    """Read the clocks and store the new record. Raises OSError: without a record, a jump would not be noticed."""
    record = next_record(load_record(disk, state_dir), read_clock(disk))
    text = json.dumps(asdict(record)).encode()
    disk.make_path(state_dir)
    with closing(disk, disk.open_root(state_dir)) as folder:
        temp = TEMP_PREFIX + RECORD
        # If we die before the rename: a temp, which the next update replaces.
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(folder, temp)
        with closing(disk, disk.create(folder, temp, 0o644)) as file:
            disk.write(file, text)
        disk.rename_over(folder, temp, folder, RECORD)
    return record


def describe_pause(record: ClockRecord | None) -> str:
    """Return a sentence about a pause, "" if there is none."""
    if record is None or not record.pause_seconds:
        return ""
    way = "forward" if record.jump_seconds > 0 else "back"
    return (
        f"the clock was set {way} by {abs(record.jump_seconds) / 3600:.1f} hours: no file is deleted for "
        f"{record.pause_seconds / 3600:.1f} hours after {time.ctime(record.reading.time)}; check the clock"
    )


def load_record(disk: Disk, state_dir: PurePath) -> ClockRecord | None:
    """Return the stored record; None if there is none, or it can't be read."""
    try:
        table = json.loads(disk.read_text(state_dir / RECORD.decode()))
        boot, uptime, at = (table["reading"][key] for key in ("boot", "uptime", "time"))
        numbers = [float(number) for number in (uptime, at, table["pause_seconds"], table["jump_seconds"])]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not all(map(math.isfinite, numbers)):
        return None
    return ClockRecord(ClockReading(str(boot), *numbers[:2]), *numbers[2:])
