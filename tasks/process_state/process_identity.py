"""Tokens that identify host, process and attempt, so that the death of a process on this host is detected at once."""

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
    """Whether a token's process is running."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"  # on another host, in another container, or on a system without /proc


def process_token(host: str) -> str:
    """Return a token for one attempt of this process: host, PID namespace, PID, start time, attempt."""
    pid, start_time = os.getpid(), ""
    with contextlib.suppress(OSError):
        start_time = _own_start_time(pid)
    return f"{host}/{_pid_namespace()}/{pid}/{start_time}/{time.monotonic_ns()}"


def liveness(owner: str) -> Liveness:
    """Return whether a token's process is alive; its PID can be looked up only in the same boot and PID namespace."""
    try:
        _, namespace, pid, start_time, _ = owner.rsplit("/", 4)
    except ValueError:
        return Liveness.UNKNOWN
    if not (namespace and start_time) or namespace != _pid_namespace() or not _PID.fullmatch(pid):
        return Liveness.UNKNOWN
    try:
        return Liveness.ALIVE if _start_time(int(pid)) == start_time else Liveness.DEAD
    except OSError:  # the lookup failed: too many open files, perhaps
        return Liveness.UNKNOWN


@cache
def _pid_namespace() -> str:
    """Return an id of this boot and of this process's PID namespace, "" if the kernel does not provide one."""
    with contextlib.suppress(OSError):
        boot = Disk().read_text(_BOOT_ID).strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - a number, not a file
    return ""


@cache
def _own_start_time(pid: int) -> str:
    return _start_time(pid)


def _start_time(pid: int) -> str:
    """Return a process's start time in clock ticks since boot, "" if there is no such process (or only a zombie).

    Raises OSError if that is unknown: systemd can hide other users' processes below /proc, which does not mean dead.
    """
    try:
        fields = Disk().read_text(PurePath(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)  # sends nothing; PermissionError: another user's process
            raise PermissionError(f"process {pid} exists, but is hidden in /proc") from None
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
