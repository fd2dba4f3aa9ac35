"""Runs a program to its end with everything that it starts: its exit code, and the last lines of its standard error."""

import os
import resource
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from inboxd.fs.syscalls import Disk

LINES_KEPT, BYTES_KEPT = 10, 8192
"""How much of the end of standard error is kept, at most."""
STOP_SECONDS = 2.0
"""How long an interrupted program has after SIGTERM, before it is killed."""
STDERR = 2

_POLL_MS = 50
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, negative for a signal, and the last lines of its standard error."""

    exit_code: int
    last_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a program gets beside its arguments. ``memory_bytes_max`` limits each of its processes; 0 is no limit."""

    folder: Path
    environment: Mapping[str, str]
    stdin: IO[bytes] | None = None
    nice: int = 0
    memory_bytes_max: int = 0


def run_program(argv: Sequence[str], surroundings: Surroundings) -> Ended:
    """Run a program; at its end, or if this is interrupted by an exception, end what it has started, too.

    Its standard error is passed on to ours. Raises OSError if it can't be started.
    """
    process = subprocess.Popen(  # noqa: S603 - the administrator's command
        list(argv), stdin=surroundings.stdin or subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
        cwd=surroundings.folder, env=dict(surroundings.environment), start_new_session=True,
    )  # fmt: skip
    is_over = False
    try:
        _restrict(process.pid, surroundings)
        tail = _follow(process, cast("IO[bytes]", process.stderr))
        exit_code = process.wait()
        is_over = True
    finally:
        _end_family(process, is_over=is_over)
    return Ended(exit_code, tuple(_last_lines(tail)))


def _restrict(pid: int, surroundings: Surroundings) -> None:
    """Lower a program's priority and limit its memory. What it has started so far, within microseconds, is not limited."""
    with suppress(ProcessLookupError):  # it has ended already
        if surroundings.nice:
            try:
                os.setpriority(os.PRIO_PGRP, pid, surroundings.nice)
            except PermissionError as error:
                remedy = "as a service: inboxd systemd sync, and restart inboxd-worker"
                raise OSError(error.errno, f"its priority can't be lowered to nice = {surroundings.nice}; {remedy}") from None
        if limit := surroundings.memory_bytes_max:
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def _follow(process: "subprocess.Popen[bytes]", stderr: IO[bytes]) -> bytes:
    """Pass standard error on until it ends, or until only a program that was left in the background holds it open."""
    disk, tail = Disk(), b""
    poll = select.poll()
    poll.register(stderr, select.POLLIN)
    while True:
        if poll.poll(_POLL_MS):
            chunk = stderr.read(_READ_BYTES)
            if not chunk:
                return tail
            tail = (tail + chunk)[-BYTES_KEPT:]
            with suppress(OSError):
                disk.write(STDERR, chunk)
        elif process.poll() is not None:
            return tail


def _end_family(process: "subprocess.Popen[bytes]", *, is_over: bool) -> None:
    """End the program and what it has left running. One that is interrupted may first remove its temporary files."""
    with suppress(ProcessLookupError):
        if not is_over:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    cast("IO[bytes]", process.stderr).close()


def _last_lines(tail: bytes) -> Iterator[str]:
    lines = [line.strip() for line in tail.decode("utf-8", "backslashreplace").splitlines()]
    yield from [line for line in lines if line][-LINES_KEPT:]
