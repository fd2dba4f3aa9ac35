"""Runs a program to its end with everything that it starts: its exit code, and the last lines that it has printed."""

import math
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from inboxd.fs.syscalls import Disk

LINES_KEPT, BYTES_KEPT = 10, 8192
"""How much of the end of standard error is kept, at most."""
STOP_SECONDS = 2.0
"""How long an interrupted program has after SIGTERM, before it is killed."""
DRAIN_SECONDS = 0.2
"""How long standard error is read after the program has ended."""
STDOUT, STDERR = 1, 2

_POLL_MS = 50
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, negative for a signal, and the last lines that it has printed.

    They are those of standard error, or of standard output if it has printed none there.
    """

    exit_code: int
    last_lines: tuple[str, ...]


class Tail:
    """The end of a program's standard error or output, all of which is passed on to ours."""

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self._bytes = b""

    def add(self, chunk: bytes) -> None:
        """Pass a chunk on, and keep its end."""
        self._bytes = (self._bytes + chunk)[-BYTES_KEPT:]
        with suppress(OSError):
            Disk().write(self._ours, chunk)

    def lines(self) -> list[str]:
        """Return the last lines that are not empty."""
        lines = [line.strip() for line in self._bytes.decode("utf-8", "backslashreplace").splitlines()]
        return [line for line in lines if line][-LINES_KEPT:]


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

    What it prints is passed on. Raises OSError if it can't be started.
    """
    process = subprocess.Popen(  # noqa: S603 - the administrator's command
        list(argv), stdin=surroundings.stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        bufsize=0, cwd=surroundings.folder, env=dict(surroundings.environment), start_new_session=True,
    )  # fmt: skip
    streams = {cast("IO[bytes]", process.stderr): Tail(STDERR), cast("IO[bytes]", process.stdout): Tail(STDOUT)}
    is_over = False
    try:
        _restrict(process.pid, surroundings)
        for stream, chunk in _follow(process, streams):
            streams[stream].add(chunk)
        exit_code = process.wait()
        is_over = True
    except BaseException as error:
        error.add_note(" / ".join(_last_lines(streams)))
        raise
    finally:
        _end_family(process, is_over=is_over)
    return Ended(exit_code, tuple(_last_lines(streams)))


def _last_lines(streams: Mapping[IO[bytes], Tail]) -> list[str]:
    return next((lines for tail in streams.values() if (lines := tail.lines())), [])


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


def _follow(process: "subprocess.Popen[bytes]", streams: Iterable[IO[bytes]]) -> Iterator[tuple[IO[bytes], bytes]]:
    """Yield what is printed until all streams end, or a moment after the program has: what it left behind may go on."""
    poll, deadline = select.poll(), math.inf
    by_number = {stream.fileno(): stream for stream in streams}
    for number in by_number:
        poll.register(number, select.POLLIN)
    while by_number and time.monotonic() < deadline:
        has_ended = process.poll() is not None
        ready = poll.poll(0 if has_ended else _POLL_MS)
        for number, _ in ready:
            if chunk := by_number[number].read(_READ_BYTES):
                yield by_number[number], chunk
            else:
                poll.unregister(number)
                del by_number[number]
        if has_ended and not ready:
            return
        if has_ended and deadline == math.inf:
            deadline = time.monotonic() + DRAIN_SECONDS


def _end_family(process: "subprocess.Popen[bytes]", *, is_over: bool) -> None:
    """End the program and what it has left running. One that is interrupted may first remove its temporary files."""
    with suppress(ProcessLookupError, PermissionError):  # it has ended, or has become another user
        if not is_over:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for stream in (process.stdout, process.stderr):
        cast("IO[bytes]", stream).close()
