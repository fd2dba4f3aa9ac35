"""The drill's handler: does what the file's content says, and records each call's start and ending."""

import json
import os
import time
from pathlib import Path
from typing import Any

from support.live.stand_handlers import execute_command

from inboxd import InboxFile, RejectFile

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


def make(file: InboxFile) -> None:
    """Make an output with the file's content, or do what its first word says: see drill_kinds."""
    content = file.read()
    match content.split(b" ", 1)[0]:
        case b"reject":
            raise RejectFile("not this one")
        case b"fail":
            raise ValueError("always")
        case b"again" if file.attempt == 1:
            raise ValueError("not yet")
        case b"slow":
            time.sleep(0.7)
        case b"hang" if file.attempt == 1:
            time.sleep(12.0)
    for earlier in file.outputs_folder.iterdir():  # of the step before, in a chain
        earlier.unlink()
    with file.output("made") as output:
        output.write(content)


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
