"""Runs the child process of `inboxd try`: passes it a parcel, limits its time, and collects its report and output."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, cast

import msgpack

from inboxd.config.handler_kinds import HandlerKeys
from inboxd.config.rules import Inbox
from inboxd.config.settings import HARD_LIMIT_GRACE_SECONDS
from inboxd.messaging.payload import Parcel, parcel_to_wire

STARTED = "started"
"""The first line of the report: the time limit begins."""
OUTPUT_BYTES_MAX = 64 * 1024
"""Maximum size of a handler's output that is kept."""
POLL_SECONDS = 0.2
"""How often it is checked whether a process has ended whose own children keep the report open."""
OUTPUT_SECONDS = 2.0
"""Maximum wait for the end of the output: a process that left the group may keep it open."""


@dataclass
class Ended:
    """How a child process ended: its report, None if it crashed; its exit code, negative for a signal; its output."""

    report: dict[str, Any] | None
    exit_code: int | None
    output: "Output"
    was_killed: bool
    """Whether it was killed because it ignored its time limit."""


@dataclass
class Output:
    """The beginning of what a process printed, and the number of bytes after that."""

    text: bytes = b""
    bytes_left_out: int = 0
    _thread: threading.Thread | None = field(default=None, repr=False)

    def collect(self, pipe: IO[bytes]) -> None:
        """Begin reading a pipe until its end, in a thread."""
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until all is read."""
        if self._thread:
            self._thread.join(OUTPUT_SECONDS)

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while chunk := os.read(pipe.fileno(), 16 * 1024):
                room = OUTPUT_BYTES_MAX - len(self.text)
                self.text += chunk[:room]
                self.bytes_left_out += len(chunk[room:])


def run_child(inbox: Inbox, folders: Sequence[str], parcel: Parcel, limit_seconds: int) -> Ended:
    """Run an inbox's handler on a parcel of one file in a child process; at the end, kill what the handler has started."""
    read_fd, write_fd = os.pipe()
    handler = inbox.model_dump(mode="json", include=set(HandlerKeys.model_fields), exclude_unset=True)
    arguments = json.dumps([handler, inbox.outputs, list(folders), limit_seconds, write_fd])
    process = subprocess.Popen(  # noqa: S603 - this Python, with a module of ours
        [sys.executable, "-P", "-m", "inboxd.console.trial.child", arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(write_fd,), start_new_session=True,
    )  # fmt: skip
    os.close(write_fd)
    output = Output()
    output.collect(cast("IO[bytes]", process.stdout))
    try:
        with suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as pipe:
            pipe.write(msgpack.packb(parcel_to_wire(parcel)))
        lines, was_killed = _read_report(process, read_fd, limit_seconds)
        if len(lines) == len(("started", "call")):  # else it has ended, or was killed
            return Ended(json.loads(lines[1]), None, output, was_killed=False)
        return Ended(None, process.wait(), output, was_killed)
    finally:
        os.close(read_fd)
        _kill_group(process)
        output.wait()


def _read_report(process: "subprocess.Popen[bytes]", report_fd: int, limit_seconds: int) -> tuple[list[str], bool]:
    """Return the complete lines of the report, and whether the process was killed because it ignored its time limit."""
    received, deadline, was_interrupted = b"", float("inf"), False
    while received.count(b"\n") < len(("started", "call")):
        has_ended = process.poll() is not None
        ready, _, _ = select.select([report_fd], [], [], 0 if has_ended else POLL_SECONDS)
        if chunk := os.read(report_fd, 64 * 1024) if ready else b"":
            received += chunk
            if deadline == float("inf") and received.startswith(STARTED.encode() + b"\n"):
                deadline = time.monotonic() + limit_seconds
        elif ready or has_ended:
            break
        if time.monotonic() < deadline:
            continue
        if was_interrupted:
            _kill_group(process)
            return received.decode().split("\n")[:-1], True
        process.send_signal(signal.SIGUSR1)
        deadline, was_interrupted = deadline + HARD_LIMIT_GRACE_SECONDS, True
    return received.decode().split("\n")[:-1], False


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
