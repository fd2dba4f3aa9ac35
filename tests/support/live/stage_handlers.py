"""Handlers of files that may come from a store: they read the end first, then everything, in parts."""

import hashlib
import json
import os
import time
from pathlib import Path

from inboxd import InboxFile, RejectFile
from inboxd.handlers import describe

FOLDER = Path(os.environ["STAND_FOLDER"])


def read_file(file: InboxFile) -> object:
    """Record where the file was read, and what was read; by the command that is its first word."""
    file.seek(-10, os.SEEK_END)
    tail = file.read()
    file.seek(0)
    command = file.read(7).split(b" ")[0]
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in file.chunks(1 << 20):
            digest.update(chunk)
            size += len(chunk)
            if command == b"slow":
                _record({"path": file.relative_path, "at": size, "pid": os.getpid(), "host": os.environ.get("INBOXD_HOST", "")})
                time.sleep(0.2)
    except OSError as error:
        if command == b"ignore":
            return "it is no document"
        raise RejectFile(f"no document: {error}") from None  # as a library does that takes any error for a bad file
    _record({
        "path": file.relative_path, "sha256": digest.hexdigest(), "announced": file.sha256, "size": size, "tail": tail.hex(),
        "local": file.path is not None, "attempt": file.attempt, "id": file.id, "host": os.environ.get("INBOXD_HOST", ""),
    })  # fmt: skip
    if command == b"raise" and file.attempt == 1:
        raise ValueError("the first time")
    if command == b"reject":
        raise RejectFile("not wanted")
    if command == b"make":
        with file.output(f"{file.filename}.sha256") as output:
            output.write(digest.hexdigest().encode())
    return describe(file)


def _record(line: dict[str, object]) -> None:
    fd = os.open(FOLDER / "reads.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, json.dumps(line).encode() + b"\n")
    finally:
        os.close(fd)
