"""Handlers for the live tests: a file says what is to be done with it. The inboxes' settings name them, workers import them."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inboxd import InboxFile, RejectFile
from inboxd.handlers import describe

FOLDER = Path(os.environ["STAND_FOLDER"])


def obey(file: InboxFile) -> Any:  # noqa: ANN401 - whatever the file asks for
    """Write down what was given, then do what the file's first words say: "sleep 2", "raise_twice" … else describe it."""
    record(file)
    words = file.stream.read(200).split(b"\n")[0].decode("utf-8", "replace").split(" ", 1)
    file.stream.seek(0)
    return COMMANDS.get(words[0], _describe)(file, words[-1])


def record(file: InboxFile) -> None:
    """Append one line to the stand's record, in one write: many processes do so at a time."""
    line = {
        "path": file.filename, "sha256": file.sha256, "attempt": file.attempt, "pid": os.getpid(), "parcel": file.parcel,
        "id": file.id,
    }  # fmt: skip
    target = os.open(FOLDER / "seen.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, json.dumps(line).encode() + b"\n")
    finally:
        os.close(target)


def slowly(file: InboxFile) -> None:
    """Take 20 ms."""
    record(file)
    time.sleep(0.02)


def _describe(file: InboxFile, _words: str) -> Any:  # noqa: ANN401
    return describe(file)


def _reject(_file: InboxFile, reason: str) -> None:
    raise RejectFile(reason)


def _always_raise(_file: InboxFile, words: str) -> None:
    raise ValueError(words)


def _raise_twice(file: InboxFile, _words: str) -> str:
    """Raise twice, counted in a file, which tells more than ``attempt``: it counts calls, whatever we are told."""
    counter = FOLDER / f"calls-{file.id}"
    with counter.open("ab") as calls:
        calls.write(b".")
    if counter.stat().st_size <= 2:
        raise ConnectionError("the archive is away")
    return "done at last"


def _sleep(_file: InboxFile, words: str) -> None:
    time.sleep(float(words))


def _die(_file: InboxFile, _words: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(_file: InboxFile, _words: str) -> None:
    raise SystemExit(3)


def _memory(_file: InboxFile, _words: str) -> None:
    raise MemoryError


def _be_stubborn(_file: InboxFile, _words: str) -> None:
    """Ignore whatever asks to stop."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001 - the soft time limit is one of them
            continue


COMMANDS: dict[str, Callable[[InboxFile, str], Any]] = {
    "reject": _reject,
    "always_raise": _always_raise,
    "raise_twice": _raise_twice,
    "sleep": _sleep,
    "die": _die,
    "exit": _exit,
    "memory": _memory,
    "be_stubborn": _be_stubborn,
}
