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
_BOOT_ID = PurePath("/proc/sys/kernel/random/boot_id")


class Liveness(StrEnum):
    """What is known of a token's process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"  # on another machine, in another container, or on a system without /proc


def process_token(host: str) -> str:
    """Return a token for one attempt of this process: host, world, process, its birth, attempt."""
    pid, birth = os.getpid(), ""
    with contextlib.suppress(OSError):
        birth = _own_start_time(pid)
    return f"{host}/{_pid_namespace()}/{pid}/{birth}/{time.monotonic_ns()}"


def liveness(owner: str) -> Liveness:
    """Tell whether a token's process lives; its number means something only in the world (boot, container) it is from."""
    try:
        _, world, pid, birth, _ = owner.rsplit("/", 4)
    except ValueError:
        return Liveness.UNKNOWN
    if not (world and birth) or world != _pid_namespace() or not _PID.fullmatch(pid):
        return Liveness.UNKNOWN
    try:
        return Liveness.ALIVE if _start_time(int(pid)) == birth else Liveness.DEAD
    except OSError:  # we could not look: too many open files, perhaps
        return Liveness.UNKNOWN


@cache
def _pid_namespace() -> str:
    """Name the boot of this machine and our process namespace in it; "" if the system does not tell."""
    with contextlib.suppress(OSError):
        boot = Disk().read_text(_BOOT_ID).strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - a number, not a file
    return ""


@cache
def _own_start_time(pid: int) -> str:
    return _start_time(pid)


def _start_time(pid: int) -> str:
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
