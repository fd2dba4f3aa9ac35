"""Who works on a parcel: a token that names machine, process and attempt, so that a death next door is known at once."""

import contextlib
import os
import re
import time
from enum import StrEnum
from functools import cache
from pathlib import PurePath

from inboxd.fs.syscalls import Disk

_PID = re.compile(r"[0-9]{1,10}")
_BOOT = PurePath("/proc/sys/kernel/random/boot_id")


class Life(StrEnum):
    """What is known of a token's process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"  # on another machine, in another container, or on a system without /proc


def token(host: str) -> str:
    """Return a token for one attempt of this process: host, world, process, its birth, attempt."""
    pid, birth = os.getpid(), ""
    with contextlib.suppress(OSError):
        birth = _own_birth(pid)
    return f"{host}/{_world()}/{pid}/{birth}/{time.monotonic_ns()}"


def life(owner: str) -> Life:
    """Tell whether a token's process lives; its number means something only in the world (boot, container) it is from."""
    try:
        _, world, pid, birth, _ = owner.rsplit("/", 4)
    except ValueError:
        return Life.UNKNOWN
    if not (world and birth) or world != _world() or not _PID.fullmatch(pid):
        return Life.UNKNOWN
    try:
        return Life.ALIVE if _birth(int(pid)) == birth else Life.DEAD
    except OSError:  # we could not look: too many open files, perhaps
        return Life.UNKNOWN


@cache
def _world() -> str:
    """Name the boot of this machine and our process namespace in it; "" if the system does not tell."""
    with contextlib.suppress(OSError):
        boot = Disk().read_text(_BOOT).strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - a number, not a file
    return ""


@cache
def _own_birth(pid: int) -> str:
    return _birth(pid)


def _birth(pid: int) -> str:
    """Return when a process was started, in ticks since the boot; "" if there is none (a zombie is none).

    Raises OSError when that can't be seen: under systemd other users' processes are hidden below /proc, not gone.
    """
    try:
        fields = Disk().read_text(PurePath(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)  # asks, and sends nothing; PermissionError: somebody else's
            raise PermissionError(f"process {pid} is there, but hidden") from None
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
