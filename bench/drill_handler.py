"""The drill's handler: does what the file's content says, and records each call's start and ending."""

import json
import os
from pathlib import Path
from typing import Any

from support.live.stand_handlers import execute_command

from inboxd import InboxFile

FOLDER = Path(os.environ["STAND_FOLDER"])


def handle(file: InboxFile) -> Any:  # noqa: ANN401 - whatever the file asks for
    """Handle a file and record the call. If the process dies, only the start is recorded."""
    _record(file, "begun")
    try:
        result = execute_command(file)
    except BaseException:
        _record(file, "raised")
        raise
    _record(file, "returned")
    return result


def _record(file: InboxFile, event: str) -> None:
    """Append a line in a single write, since many processes append concurrently."""
    target = os.open(FOLDER / "calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.utime(target)  # the kernel's clock: a fault may have set this process's one
        at = os.fstat(target).st_mtime
        line = {"what": event, "at": at, "pid": os.getpid(), "sha256": file.sha256, "parcel": file.parcel, "id": file.id}
        os.write(target, json.dumps(line).encode() + b"\n")
    finally:
        os.close(target)
