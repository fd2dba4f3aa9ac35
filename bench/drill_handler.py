"""The drill's handler: writes down when it begins with a file and how that ends, and does what the file says meanwhile."""

import json
import os
import time
from pathlib import Path
from typing import Any

from support.live.stand_handlers import obey as do_as_told

from inboxd import InboxFile

FOLDER = Path(os.environ["STAND_FOLDER"])


def obey(file: InboxFile) -> Any:  # noqa: ANN401 - whatever the file asks for
    """Handle a file; of a process that dies over it, only the beginning is written down."""
    _write(file, "begun")
    try:
        result = do_as_told(file)
    except BaseException:
        _write(file, "raised")
        raise
    _write(file, "returned")
    return result


def _write(file: InboxFile, what: str) -> None:
    """Append one line, in one write: many processes do so at a time."""
    line = {"what": what, "at": time.time(), "pid": os.getpid(), "sha256": file.sha256, "parcel": file.parcel, "id": file.id}
    target = os.open(FOLDER / "calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, json.dumps(line).encode() + b"\n")
    finally:
        os.close(target)
