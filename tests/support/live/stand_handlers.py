"""Handlers for the live tests, which the workers import: a file's first words are a command for its handler."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from inboxd import InboxFile, RejectFile
from inboxd.handlers import describe

FOLDER = Path(os.environ["STAND_FOLDER"])


def execute_command(file: InboxFile) -> Any:  # noqa: ANN401 - any result
    """Record the call and execute the file's command, such as "sleep 2"; without a known command describe the file."""
    record_call(file)
    words = file.stream.read(200).split(b"\n")[0].decode("utf-8", "replace").split(" ", 1)
    file.stream.seek(0)
    return COMMANDS.get(words[0], _describe)(file, words[-1])


def record_call(file: InboxFile) -> None:
    """Append one line to the stand's calls file, by one write, since many processes append at the same time."""
    line = {
        "path": file.filename, "sha256": file.sha256, "attempt": file.attempt, "pid": os.getpid(), "parcel": file.parcel,
        "id": file.id,
    }  # fmt: skip
    calls_fd = os.open(FOLDER / "handler_calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(calls_fd, json.dumps(line).encode() + b"\n")
    finally:
        os.close(calls_fd)


def sleep_20_ms(file: InboxFile) -> None:
    """Record the call and sleep 20 ms."""
    record_call(file)
    time.sleep(0.02)


def _describe(file: InboxFile, _words: str) -> Any:  # noqa: ANN401
    return describe(file)


def _reject(_file: InboxFile, reason: str) -> None:
    raise RejectFile(reason)


def _always_raise(_file: InboxFile, words: str) -> None:
    raise ValueError(words)


def _raise_twice(file: InboxFile, _words: str) -> str:
    """Raise in the first two calls, which a file counts: the count does not depend on ``file.attempt``."""
    counter = FOLDER / f"calls-{file.id}"
    with counter.open("ab") as calls:
        calls.write(b".")
    if counter.stat().st_size <= 2:
        raise ConnectionError("the archive is unavailable")
    return "done at last"


def _sleep(_file: InboxFile, words: str) -> None:
    time.sleep(float(words))


def _die(_file: InboxFile, _words: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(_file: InboxFile, _words: str) -> None:
    raise SystemExit(3)


def _memory(_file: InboxFile, _words: str) -> None:
    raise MemoryError


def _ignore_stop(_file: InboxFile, _words: str) -> None:
    """Sleep 60 s and ignore every exception, such as the soft time limit."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001 - including SystemExit
            continue


_open_files: list[TextIO] = []


def _keep_deleted(file: InboxFile, _words: str) -> None:
    """Delete a scratch file beside the file, and keep it open: a network mount then gives it another name."""
    scratch = Path(os.fsdecode(file.path)).with_name("scratch")
    _open_files.append(scratch.open("w"))
    scratch.unlink()


COMMANDS: dict[str, Callable[[InboxFile, str], Any]] = {
    "reject": _reject,
    "always_raise": _always_raise,
    "raise_twice": _raise_twice,
    "sleep": _sleep,
    "die": _die,
    "exit": _exit,
    "memory": _memory,
    "ignore_stop": _ignore_stop,
    "keep_deleted": _keep_deleted,
}
