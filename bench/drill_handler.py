"""The drill's handler: does what the file's content says, and records each call's start and ending."""

import json
import os
import time
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
    line = {"what": event, "at": time.time(), "pid": os.getpid(), "sha256": file.sha256, "parcel": file.parcel, "id": file.id}
    target = os.open(FOLDER / "calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, json.dumps(line).encode() + b"\n")
    finally:
        os.close(target)
